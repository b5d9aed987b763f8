//! What is the product of rows of weights with a few rows of activations?
//!
//! Each pair of a row of weights and a row of activations has its own running sums, in the same
//! order however many there are of either. Several pairs are worked on at once, so that sums need
//! not wait for each other, and what is read of a row serves several.

use std::ops::Range;

use half::bf16;
use pulp::{Simd, WithSimd};

/// Rows of activations up to which the order of a sum is the same.
pub(crate) const FEW: usize = 16;
/// Columns that share one scale in 8 bits.
pub(crate) const GROUP: usize = 32;
/// Rows of weights, and of activations, that are worked on at once.
const TOGETHER: usize = 4;

/// Rows of weights as they are stored.
pub(crate) trait Rows: Copy + Sync {
    /// A row as f32: written to `wide`, which is as long, unless it is such.
    fn row<'a, S: Simd>(&'a self, _: S, row: usize, wide: &'a mut [f32]) -> &'a [f32];
}

/// f32 or bf16, row by row.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a, E>(pub(crate) &'a [E]);

impl Rows for Plain<'_, f32> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, _: S, row: usize, wide: &'a mut [f32]) -> &'a [f32] {
        &self.0[row * wide.len()..][..wide.len()]
    }
}

impl Rows for Plain<'_, bf16> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, _: S, row: usize, wide: &'a mut [f32]) -> &'a [f32] {
        let numbers = &self.0[row * wide.len()..][..wide.len()];
        for (wide, number) in wide.iter_mut().zip(numbers) {
            *wide = f32::from_bits(u32::from(number.to_bits()) << 16);
        }
        wide
    }
}

/// 8 bits, and a scale for every [`GROUP`] columns of a row.
#[derive(Clone, Copy)]
pub(crate) struct Int8<'a> {
    pub(crate) numbers: &'a [i8],
    pub(crate) scales: &'a [f32],
}

impl Rows for Int8<'_> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, simd: S, row: usize, wide: &'a mut [f32]) -> &'a [f32] {
        let (inner, groups) = (wide.len(), wide.len().div_ceil(GROUP));
        let numbers = self.numbers[row * inner..][..inner].chunks_exact(S::F32_LANES);
        let scales = &self.scales[row * groups..][..groups];
        let (lanes, rest) = S::as_mut_simd_f32s(wide);
        for (wide, number) in rest.iter_mut().zip(numbers.remainder()) {
            *wide = f32::from(*number) * scales[groups - 1];
        }
        for (at, (lanes, numbers)) in lanes.iter_mut().zip(numbers).enumerate() {
            // As many as the widest instructions take: for the loop to become one of them.
            let mut whole = [0.0; 16];
            for (whole, number) in whole[..S::F32_LANES].iter_mut().zip(numbers) {
                *whole = f32::from(*number);
            }
            let scale = simd.splat_f32s(scales[at * S::F32_LANES / GROUP]);
            *lanes = simd.mul_f32s(S::as_simd_f32s(&whole).0[0], scale);
        }
        wide
    }
}

/// y = x W^T for some rows of W: to be given to [`pulp::Arch::dispatch`].
pub(crate) struct Product<'a, R> {
    pub(crate) weights: R,
    /// The rows of W.
    pub(crate) rows: Range<usize>,
    /// (rows of x, inner).
    pub(crate) x: &'a [f32],
    pub(crate) inner: usize,
    /// (rows of x, rows of W).
    pub(crate) y: &'a mut [f32],
}

impl<R: Rows> WithSimd for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut wide = vec![0.0; TOGETHER * self.inner];
        let (out, mut row) = (self.rows.len(), 0);
        while row + TOGETHER <= out {
            self.beside::<S, TOGETHER>(simd, row, &mut wide);
            row += TOGETHER;
        }
        while row < out {
            self.beside::<S, 1>(simd, row, &mut wide);
            row += 1;
        }
    }
}

impl<R: Rows> Product<'_, R> {
    /// `W` rows of weights from `row` on with all activations.
    #[inline(always)]
    fn beside<S: Simd, const W: usize>(&mut self, simd: S, row: usize, wide: &mut [f32]) {
        let weights = self.weights;
        let mut w: [&[f32]; W] = [&[]; W];
        for (at, (w, wide)) in w.iter_mut().zip(wide.chunks_exact_mut(self.inner)).enumerate() {
            *w = weights.row(simd, self.rows.start + row + at, wide);
        }
        let count = self.x.len() / self.inner;
        let mut x = 0;
        while x + TOGETHER <= count {
            self.pairs::<S, W, TOGETHER>(simd, w, (row, x));
            x += TOGETHER;
        }
        match count - x {
            1 => self.pairs::<S, W, 1>(simd, w, (row, x)),
            2 => self.pairs::<S, W, 2>(simd, w, (row, x)),
            3 => self.pairs::<S, W, 3>(simd, w, (row, x)),
            _ => {}
        }
    }

    /// The rows of weights `w`, from `row` on, with `X` rows of activations from `first` on.
    #[inline(always)]
    fn pairs<S: Simd, const W: usize, const X: usize>(
        &mut self,
        simd: S,
        w: [&[f32]; W],
        (row, first): (usize, usize),
    ) {
        let mut x: [&[f32]; X] = [&[]; X];
        for (at, x) in x.iter_mut().enumerate() {
            *x = &self.x[(first + at) * self.inner..][..self.inner];
        }
        let sums = sums(simd, self.inner, w, x);
        let out = self.rows.len();
        for (w, sums) in sums.iter().enumerate() {
            for (at, sum) in sums.iter().enumerate() {
                self.y[(first + at) * out + row + w] = *sum;
            }
        }
    }
}

/// The products of `W` rows of weights with `X` rows of activations, all `inner` wide.
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
    for at in 0..whole {
        for (sums, w) in sums.iter_mut().zip(w_lanes) {
            for (sum, x) in sums.iter_mut().zip(x_lanes) {
                *sum = simd.mul_add_e_f32s(w[at], x[at], *sum);
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
    let mut found = [[0.0; X]; W];
    for (found, sums) in found.iter_mut().zip(sums) {
        for (found, sum) in found.iter_mut().zip(sums) {
            *found = simd.reduce_sum_f32s(sum);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the product with every set of instructions there is here.
    fn everywhere<R: Rows>(weights: R, rows: usize, x: &[f32], inner: usize) -> Vec<Vec<f32>> {
        let run = |with: &dyn Fn(Product<'_, R>)| {
            let mut y = vec![f32::NAN; x.len() / inner * rows];
            with(Product { weights, rows: 0..rows, x, inner, y: &mut y });
            y
        };
        let mut found = vec![
            run(&|product| pulp::Arch::new().dispatch(product)),
            run(&|product| Simd::vectorize(pulp::Scalar::new(), product)),
        ];
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            found.push(run(&|product| Simd::vectorize(avx2, product)));
        }
        found
    }

    #[test]
    fn every_set_of_instructions_gives_the_product() {
        for (rows, inner, count) in [(1, 5, 1), (3, 37, 2), (9, 64, 5), (11, 100, 7), (4, 33, 16)] {
            let number = |i: usize| ((i * 7919 + i * i % 13) % 199) as f32 / 99.0 - 1.0;
            let x: Vec<f32> = (0..count * inner).map(|i| number(i + 3)).collect();
            let numbers: Vec<f32> = (0..rows * inner).map(number).collect();
            let small: Vec<bf16> = numbers.iter().map(|&x| bf16::from_f32(x)).collect();
            let bytes: Vec<i8> = (0..rows * inner).map(|i| (i * 37 % 255) as i8).collect();
            let groups = inner.div_ceil(GROUP);
            let scales: Vec<f32> = (0..rows * groups).map(|i| 0.01 + 0.001 * i as f32).collect();
            let scaled = |i: usize| {
                let scale = scales[i / inner * groups + i % inner / GROUP];
                f32::from(bytes[i]) * scale
            };
            let int8 = Int8 { numbers: &bytes, scales: &scales };
            let widened: Vec<f32> = small.iter().map(|x| x.to_f32()).collect();
            let unscaled: Vec<f32> = (0..rows * inner).map(scaled).collect();
            for (found, weights) in [
                (everywhere(Plain(&numbers[..]), rows, &x, inner), &numbers),
                (everywhere(Plain(&small[..]), rows, &x, inner), &widened),
                (everywhere(int8, rows, &x, inner), &unscaled),
            ] {
                for (at, found) in found.iter().flat_map(|found| found.iter().enumerate()) {
                    let (text, row) = (at / rows * inner, at % rows * inner);
                    let terms =
                        (0..inner).map(|i| f64::from(x[text + i]) * f64::from(weights[row + i]));
                    let expected: f64 = terms.sum();
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-6 * inner as f64, "{error} {rows} {inner} {count}");
                }
            }
        }
    }
}
