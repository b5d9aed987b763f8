//! In which type do weights wait to be read, and how fast are they multiplied with a few rows?
//!
//! Decoding reads every weight for every token and does two operations with it: it is as fast as
//! memory is. A smaller type is read sooner, at a loss.

use std::ops::Range;
use std::str::FromStr;

use candle_core::Tensor;
use half::bf16;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::few_rows::{FEW, GROUP, Int8, Plain, Product, Rows};
use super::gemm::{Into, Matrix, Threads, product};
use super::host::Host;
use crate::error::{Error, Result};

/// Numbers that one task reads, at least: a few tens of microseconds.
const TASK: usize = 1 << 16;
/// Rows of the matrix that are widened at once when many rows are multiplied.
const WIDENED: usize = 256;

/// The type of the weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightType {
    /// As trained.
    #[default]
    F32,
    /// 8 bits of the mantissa: half the bytes; each weight is off by up to 1/256 of itself.
    Bf16,
    /// 8 bits and one scale for 32 columns of a row: 0.28 of the bytes; each weight is off by up
    /// to 1/254 of the largest of its 32.
    Int8,
}

impl FromStr for WeightType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(Error::input(format!("`{text}` is no type of weights"))
                .hint("expected f32, bf16 or int8")),
        }
    }
}

#[derive(Debug)]
enum Numbers {
    F32(Tensor),
    Bf16(Vec<bf16>),
    /// Numbers, and a scale for every group of a row.
    Int8(Vec<i8>, Vec<f32>),
}

/// W, (out, in), to be multiplied with rows of activations on the CPU.
#[derive(Debug)]
pub struct QuantizedMatrix {
    numbers: Numbers,
    out: usize,
    inner: usize,
}

impl QuantizedMatrix {
    /// Of a contiguous f32 tensor on the CPU, (out, in), whose memory is shared when it is stored
    /// as it is.
    ///
    /// # Errors
    /// It is no such tensor.
    pub fn new(tensor: &Tensor, stored_as: WeightType) -> Result<Self> {
        let (out, inner) = tensor.dims2()?;
        let values = Host::new(tensor)?;
        let numbers = match stored_as {
            WeightType::F32 => Numbers::F32(tensor.clone()),
            WeightType::Bf16 => {
                Numbers::Bf16(values.par_iter().map(|&value| bf16::from_f32(value)).collect())
            }
            WeightType::Int8 => {
                let groups = inner.div_ceil(GROUP);
                let (mut numbers, mut scales) = (vec![0; out * inner], vec![0.0; out * groups]);
                numbers
                    .par_chunks_mut(inner.max(1))
                    .zip(scales.par_chunks_mut(groups.max(1)))
                    .zip(values.par_chunks(inner.max(1)))
                    .for_each(|((numbers, scales), values)| quantise(values, numbers, scales));
                Numbers::Int8(numbers, scales)
            }
        };
        Ok(Self { numbers, out, inner })
    }

    /// Rows of W.
    #[must_use]
    pub fn out(&self) -> usize {
        self.out
    }

    /// Columns of W.
    #[must_use]
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// What a product reads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let count = self.out * self.inner;
        match &self.numbers {
            Numbers::F32(_) => 4 * count,
            Numbers::Bf16(_) => 2 * count,
            Numbers::Int8(_, scales) => count + 4 * scales.len(),
        }
    }

    /// Row `row` of W, (in), as f32.
    ///
    /// # Errors
    /// The tensor it was made from is not on the CPU any more.
    ///
    /// # Panics
    /// There is no such row, or `values` is not as wide.
    pub fn row(&self, row: usize, values: &mut [f32]) -> Result<()> {
        let span = row * self.inner..(row + 1) * self.inner;
        match &self.numbers {
            Numbers::F32(tensor) => values.copy_from_slice(&Host::new(tensor)?[span]),
            Numbers::Bf16(numbers) => {
                values.iter_mut().zip(&numbers[span]).for_each(|(v, n)| *v = n.to_f32());
            }
            Numbers::Int8(numbers, scales) => {
                let groups = self.inner.div_ceil(GROUP);
                let scales = &scales[row * groups..(row + 1) * groups];
                let numbers = numbers[span].chunks(GROUP);
                for ((values, numbers), scale) in values.chunks_mut(GROUP).zip(numbers).zip(scales)
                {
                    values.iter_mut().zip(numbers).for_each(|(v, n)| *v = f32::from(*n) * scale);
                }
            }
        }
        Ok(())
    }

    /// y = x W^T: `x` (rows, in) to `y` (rows, out). Up to 16 rows, what one row gives depends
    /// neither on the others nor on the threads, to the bit.
    ///
    /// # Errors
    /// The sizes do not fit.
    pub fn product(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let rows = x.len() / self.inner.max(1);
        if rows * self.inner != x.len() || rows * self.out != y.len() {
            return Err(Error::internal(format!(
                "{} numbers times a matrix of {} x {} into {}",
                x.len(),
                self.out,
                self.inner,
                y.len()
            )));
        }
        if rows > FEW {
            return self.many(x, rows, y);
        }
        match &self.numbers {
            Numbers::F32(tensor) => self.few(Plain(&Host::new(tensor)?), x, rows, y),
            Numbers::Bf16(numbers) => self.few(Plain(numbers), x, rows, y),
            Numbers::Int8(numbers, scales) => self.few(Int8 { numbers, scales }, x, rows, y),
        }
        Ok(())
    }

    fn few(&self, weights: impl Rows, x: &[f32], rows: usize, y: &mut [f32]) {
        let inner = self.inner;
        let task = (TASK / inner.max(1)).max(1);
        let part = |rows: Range<usize>, y: &mut [f32]| {
            pulp::Arch::new().dispatch(Product { weights, rows, x, inner, y });
        };
        if rows == 0 || inner == 0 {
            y.fill(0.0);
        } else if task >= self.out {
            part(0..self.out, y);
        } else if rows == 1 {
            let parts = y.par_chunks_mut(task).enumerate();
            parts.for_each(|(at, y)| part(at * task..at * task + y.len(), y));
        } else {
            let parts: Vec<Vec<f32>> = (0..self.out.div_ceil(task))
                .into_par_iter()
                .map(|at| {
                    let span = at * task..self.out.min((at + 1) * task);
                    let mut y = vec![0.0; rows * span.len()];
                    part(span, &mut y);
                    y
                })
                .collect();
            side_by_side(&parts, rows, y);
        }
    }

    fn many(&self, x: &[f32], rows: usize, y: &mut [f32]) -> Result<()> {
        let x = Matrix::new(x, rows, self.inner);
        if let Numbers::F32(tensor) = &self.numbers {
            let weight = Host::new(tensor)?;
            let weight = Matrix::new(&weight, self.out, self.inner).transposed();
            product(y, Into::Replace, 1.0, x, weight, Threads::All);
            return Ok(());
        }
        let blocks: Result<Vec<Vec<f32>>> = (0..self.out.div_ceil(WIDENED))
            .into_par_iter()
            .map(|block| {
                let first = block * WIDENED;
                let count = WIDENED.min(self.out - first);
                let mut wide = vec![0.0; count * self.inner];
                for (at, row) in wide.chunks_exact_mut(self.inner).enumerate() {
                    self.row(first + at, row)?;
                }
                let wide = Matrix::new(&wide, count, self.inner).transposed();
                let mut part = vec![0.0; rows * count];
                product(&mut part, Into::Replace, 1.0, x, wide, Threads::One);
                Ok(part)
            })
            .collect();
        side_by_side(&blocks?, rows, y);
        Ok(())
    }
}

/// Writes `parts`, (rows, columns of it) each, into `y`, (rows, all columns).
fn side_by_side(parts: &[Vec<f32>], rows: usize, y: &mut [f32]) {
    let width = y.len() / rows;
    for (row, y) in y.chunks_exact_mut(width).enumerate() {
        let mut rest = y;
        for part in parts {
            let count = part.len() / rows;
            let (own, after) = rest.split_at_mut(count);
            own.copy_from_slice(&part[row * count..][..count]);
            rest = after;
        }
    }
}

/// The nearest of 255 steps from minus to plus the largest number of each group.
fn quantise(values: &[f32], numbers: &mut [i8], scales: &mut [f32]) {
    let groups = values.chunks(GROUP).zip(numbers.chunks_mut(GROUP));
    for ((values, numbers), scale) in groups.zip(scales) {
        let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        *scale = largest / 127.0;
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        for (number, value) in numbers.iter_mut().zip(values) {
            *number = (value * inverse).round() as i8;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;

    const TYPES: [WeightType; 3] = [WeightType::F32, WeightType::Bf16, WeightType::Int8];

    fn numbers(seed: usize, count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 + seed * 31 + i * i % 13) % 199) as f32 / 99.0 - 1.0)
            .collect()
    }

    fn matrix(out: usize, inner: usize, stored_as: WeightType) -> (Vec<f32>, QuantizedMatrix) {
        let values = numbers(3, out * inner);
        let tensor = Tensor::from_slice(&values, (out, inner), &Device::Cpu).unwrap();
        (values, QuantizedMatrix::new(&tensor, stored_as).unwrap())
    }

    fn product(matrix: &QuantizedMatrix, x: &[f32]) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len() / matrix.inner() * matrix.out()];
        matrix.product(x, &mut y).unwrap();
        y
    }

    /// The rows as they are stored.
    fn widened(matrix: &QuantizedMatrix) -> Vec<f32> {
        let mut values = vec![0.0; matrix.out() * matrix.inner()];
        for (row, values) in values.chunks_exact_mut(matrix.inner()).enumerate() {
            matrix.row(row, values).unwrap();
        }
        values
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_product_is_that_of_the_stored_rows(
            rows in 1_usize..40, out in 1_usize..70, inner in 1_usize..200, kind in 0_usize..3,
        ) {
            let (_, matrix) = matrix(out, inner, TYPES[kind]);
            let (x, w) = (numbers(5, rows * inner), widened(&matrix));
            let found = product(&matrix, &x);
            for row in 0..rows {
                for o in 0..out {
                    let terms = (0..inner).map(|i| {
                        f64::from(x[row * inner + i]) * f64::from(w[o * inner + i])
                    });
                    let expected: f64 = terms.sum();
                    let error = (f64::from(found[row * out + o]) - expected).abs();
                    prop_assert!(error < 1e-6 * inner as f64, "{error}");
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours_or_on_the_threads() {
        for stored_as in TYPES {
            let (_, matrix) = matrix(700, 333, stored_as);
            let x = numbers(1, 16 * 333);
            let all = product(&matrix, &x);
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            assert_eq!(one.install(|| product(&matrix, &x)), all);
            assert_eq!(three.install(|| product(&matrix, &x)), all);
            for rows in 1..16 {
                assert_eq!(product(&matrix, &x[..rows * 333]), all[..rows * 700], "{rows}");
            }
        }
    }

    #[test]
    fn smaller_types_are_off_by_what_they_say() {
        for (stored_as, bytes) in TYPES.into_iter().zip([4.0, 2.0, 1.125]) {
            let (values, matrix) = matrix(9, 320, stored_as);
            let found = widened(&matrix);
            for (found, values) in found.chunks(GROUP).zip(values.chunks(GROUP)) {
                let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                for (found, value) in found.iter().zip(values) {
                    let bound = match stored_as {
                        WeightType::F32 => 0.0,
                        WeightType::Bf16 => value.abs() / 256.0,
                        WeightType::Int8 => largest / 254.0 * 1.0001,
                    };
                    assert!((found - value).abs() <= bound, "{stored_as:?} {found} {value}");
                }
            }
            assert!((matrix.bytes() as f64 - bytes * 9.0 * 320.0).abs() < 1e-9);
        }
        assert!("int4".parse::<WeightType>().is_err());
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let (_, matrix) = matrix(4, 6, WeightType::F32);
        assert!(matrix.product(&[0.0; 7], &mut [0.0; 4]).is_err());
        assert!(matrix.product(&[0.0; 6], &mut [0.0; 5]).is_err());
    }
}
