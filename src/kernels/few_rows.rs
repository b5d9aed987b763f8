//! The product of a weight matrix with a few rows of activations.
//!
//! Each pair of a weight row and an activation row has its own running sums, in an order that does
//! not depend on how many rows there are. A tile of pairs is computed at once: its sums are
//! independent, and every row that is read serves several of them.

use std::ops::Range;

use half::bf16;
use pulp::{Simd, WithSimd};

/// Rows of activations up to which the order of a sum does not depend on their number.
pub(crate) const MAX_FEW_ROWS: usize = 16;
/// Columns of an int8 row that share one scale.
pub(crate) const GROUP: usize = 32;
/// Rows of weights, and of activations, in one tile.
const TILE: usize = 4;

/// Rows of a weight matrix in their storage type.
pub(crate) trait WeightRows: Copy + Sync {
    /// Row `row` as f32: dequantized into `wide`, which is as long as a row, unless it is f32
    /// already.
    fn row<'a, S: Simd>(&'a self, _: S, row: usize, wide: &'a mut [f32]) -> &'a [f32];
}

/// A row-major matrix of f32 or bf16.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a, E>(pub(crate) &'a [E]);

impl WeightRows for Plain<'_, f32> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, _: S, row: usize, wide: &'a mut [f32]) -> &'a [f32] {
        &self.0[row * wide.len()..][..wide.len()]
    }
}

impl WeightRows for Plain<'_, bf16> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, _: S, row: usize, wide: &'a mut [f32]) -> &'a [f32] {
        let values = &self.0[row * wide.len()..][..wide.len()];
        for (wide, value) in wide.iter_mut().zip(values) {
            *wide = f32::from_bits(u32::from(value.to_bits()) << 16);
        }
        wide
    }
}

/// A row-major int8 matrix with one scale for every [`GROUP`] columns of a row.
#[derive(Clone, Copy)]
pub(crate) struct Int8<'a> {
    pub(crate) values: &'a [i8],
    pub(crate) scales: &'a [f32],
}

impl WeightRows for Int8<'_> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, simd: S, row: usize, wide: &'a mut [f32]) -> &'a [f32] {
        let (inner, groups) = (wide.len(), wide.len().div_ceil(GROUP));
        let values = self.values[row * inner..][..inner].chunks_exact(S::F32_LANES);
        let scales = &self.scales[row * groups..][..groups];
        let (lanes, rest) = S::as_mut_simd_f32s(wide);
        for (wide, value) in rest.iter_mut().zip(values.remainder()) {
            *wide = f32::from(*value) * scales[groups - 1];
        }
        for (index, (lanes, values)) in lanes.iter_mut().zip(values).enumerate() {
            // As long as the widest vector, so that the loop compiles to one conversion.
            let mut vector = [0.0; 16];
            for (element, value) in vector[..S::F32_LANES].iter_mut().zip(values) {
                *element = f32::from(*value);
            }
            let scale = simd.splat_f32s(scales[index * S::F32_LANES / GROUP]);
            *lanes = simd.mul_f32s(S::as_simd_f32s(&vector).0[0], scale);
        }
        wide
    }
}

/// y = x W^T for a range of rows of W, to be run by [`pulp::Arch::dispatch`].
pub(crate) struct Product<'a, R> {
    pub(crate) weights: R,
    /// Rows of W to compute.
    pub(crate) rows: Range<usize>,
    /// (rows of x, inner).
    pub(crate) x: &'a [f32],
    pub(crate) inner: usize,
    /// (rows of x, rows of W).
    pub(crate) y: &'a mut [f32],
}

impl<R: WeightRows> WithSimd for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut wide = vec![0.0; TILE * self.inner];
        let (out, mut row) = (self.rows.len(), 0);
        while row + TILE <= out {
            self.tile::<S, TILE>(simd, row, &mut wide);
            row += TILE;
        }
        while row < out {
            self.tile::<S, 1>(simd, row, &mut wide);
            row += 1;
        }
    }
}

impl<R: WeightRows> Product<'_, R> {
    /// Multiplies `W` rows of weights, from `row` on, with all activations.
    #[inline(always)]
    fn tile<S: Simd, const W: usize>(&mut self, simd: S, row: usize, wide: &mut [f32]) {
        let weights = self.weights;
        let mut w: [&[f32]; W] = [&[]; W];
        for (index, (w, wide)) in w.iter_mut().zip(wide.chunks_exact_mut(self.inner)).enumerate() {
            *w = weights.row(simd, self.rows.start + row + index, wide);
        }
        let count = self.x.len() / self.inner;
        let mut x = 0;
        while x + TILE <= count {
            self.multiply_pairs::<S, W, TILE>(simd, w, (row, x));
            x += TILE;
        }
        match count - x {
            1 => self.multiply_pairs::<S, W, 1>(simd, w, (row, x)),
            2 => self.multiply_pairs::<S, W, 2>(simd, w, (row, x)),
            3 => self.multiply_pairs::<S, W, 3>(simd, w, (row, x)),
            _ => {}
        }
    }

    /// Multiplies the weight rows `w`, which start at `row`, with `X` rows of activations from
    /// `first` on.
    #[inline(always)]
    fn multiply_pairs<S: Simd, const W: usize, const X: usize>(
        &mut self,
        simd: S,
        w: [&[f32]; W],
        (row, first): (usize, usize),
    ) {
        let mut x: [&[f32]; X] = [&[]; X];
        for (index, x) in x.iter_mut().enumerate() {
            *x = &self.x[(first + index) * self.inner..][..self.inner];
        }
        let sums = sums(simd, self.inner, w, x);
        let out = self.rows.len();
        for (w, sums) in sums.iter().enumerate() {
            for (index, sum) in sums.iter().enumerate() {
                self.y[(first + index) * out + row + w] = *sum;
            }
        }
    }
}

/// The dot products of `W` weight rows with `X` activation rows, all `inner` wide.
#[inline(always)]
fn sums<S: Simd, const W: usize, const X: usize>(
    simd: S,
    inner: usize,
    w: [&[f32]; W],
    x: [&[f32]; X],
) -> [[f32; X]; W] {
    let (whole, rest) = (inner / S::F32_LANES, inner % S::F32_LANES);
    let mut w_lanes: [&[S::f32s]; W] = [&[]; W];
    let mut x_lanes: [&[S::f32s]; X] = [&[]; X];
    for (lanes, w) in w_lanes.iter_mut().zip(w) {
        *lanes = &S::as_simd_f32s(w).0[..whole];
    }
    for (lanes, x) in x_lanes.iter_mut().zip(x) {
        *lanes = &S::as_simd_f32s(x).0[..whole];
    }
    let mut sums = [[simd.splat_f32s(0.0); X]; W];
    for index in 0..whole {
        for (sums, w) in sums.iter_mut().zip(w_lanes) {
            for (sum, x) in sums.iter_mut().zip(x_lanes) {
                *sum = simd.mul_add_e_f32s(w[index], x[index], *sum);
            }
        }
    }
    if rest > 0 {
        for (sums, w) in sums.iter_mut().zip(w) {
            for (sum, x) in sums.iter_mut().zip(x) {
                let w = simd.partial_load_f32s(&w[inner - rest..]);
                let x = simd.partial_load_f32s(&x[inner - rest..]);
                *sum = simd.mul_add_e_f32s(w, x, *sum);
            }
        }
    }
    let mut totals = [[0.0; X]; W];
    for (totals, sums) in totals.iter_mut().zip(sums) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = simd.reduce_sum_f32s(sum);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The product by every instruction set this machine has.
    fn every_instruction_set<R: WeightRows>(
        weights: R,
        rows: usize,
        x: &[f32],
        inner: usize,
    ) -> Vec<Vec<f32>> {
        let run = |with: &dyn Fn(Product<'_, R>)| {
            let mut y = vec![f32::NAN; x.len() / inner * rows];
            with(Product { weights, rows: 0..rows, x, inner, y: &mut y });
            y
        };
        let mut products = vec![
            run(&|product| pulp::Arch::new().dispatch(product)),
            run(&|product| Simd::vectorize(pulp::Scalar::new(), product)),
        ];
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            products.push(run(&|product| Simd::vectorize(avx2, product)));
        }
        products
    }

    #[test]
    fn every_instruction_set_gives_the_product() {
        for (rows, inner, count) in [(1, 5, 1), (3, 37, 2), (9, 64, 5), (11, 100, 7), (4, 33, 16)] {
            let value = |i: usize| ((i * 7919 + i * i % 13) % 199) as f32 / 99.0 - 1.0;
            let x: Vec<f32> = (0..count * inner).map(|i| value(i + 3)).collect();
            let wide: Vec<f32> = (0..rows * inner).map(value).collect();
            let short: Vec<bf16> = wide.iter().map(|&x| bf16::from_f32(x)).collect();
            let bytes: Vec<i8> = (0..rows * inner).map(|i| (i * 37 % 255) as i8).collect();
            let groups = inner.div_ceil(GROUP);
            let scales: Vec<f32> = (0..rows * groups).map(|i| 0.01 + 0.001 * i as f32).collect();
            let scaled = |i: usize| {
                let scale = scales[i / inner * groups + i % inner / GROUP];
                f32::from(bytes[i]) * scale
            };
            let int8 = Int8 { values: &bytes, scales: &scales };
            let widened: Vec<f32> = short.iter().map(|x| x.to_f32()).collect();
            let unscaled: Vec<f32> = (0..rows * inner).map(scaled).collect();
            for (products, weights) in [
                (every_instruction_set(Plain(&wide[..]), rows, &x, inner), &wide),
                (every_instruction_set(Plain(&short[..]), rows, &x, inner), &widened),
                (every_instruction_set(int8, rows, &x, inner), &unscaled),
            ] {
                for (index, y) in products.iter().flat_map(|product| product.iter().enumerate()) {
                    let (token, row) = (index / rows * inner, index % rows * inner);
                    let terms =
                        (0..inner).map(|i| f64::from(x[token + i]) * f64::from(weights[row + i]));
                    let expected: f64 = terms.sum();
                    let error = (f64::from(*y) - expected).abs();
                    assert!(error < 1e-6 * inner as f64, "{error} {rows} {inner} {count}");
                }
            }
        }
    }
}
