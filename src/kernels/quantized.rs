//! Weight matrices stored as f32, bf16 or int8, and their product with rows of activations.
//!
//! Decoding reads every weight for every token and does two operations with it: memory bandwidth
//! bounds it. A smaller type is read faster, at a loss of precision.

use std::ops::Range;
use std::str::FromStr;

use candle_core::Tensor;
use half::bf16;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::few_rows::{GROUP, Int8, MAX_FEW_ROWS, Plain, Product, WeightRows};
use super::gemm::{Into, Matrix, Threads, product};
use super::host::Host;
use crate::error::{Error, Result};

/// Least weights that one task reads: a few tens of microseconds.
const TASK: usize = 1 << 16;
/// Rows of the matrix that are dequantized at once for a product with many rows.
const DEQUANTIZED_ROWS: usize = 256;

/// Storage type of the weight matrices of a decoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightType {
    /// 32 bits, as trained.
    #[default]
    F32,
    /// 16 bits, 8 of them mantissa: half the bytes; relative error of each weight up to 1/256.
    Bf16,
    /// 8 bits with one scale for 32 columns of a row: 0.28 of the bytes; error of each weight up to
    /// 1/254 of the largest of its 32.
    Int8,
}

impl FromStr for WeightType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(Error::input(format!("`{text}` is not a weight type"))
                .hint("expected f32, bf16 or int8")),
        }
    }
}

#[derive(Debug)]
enum Storage {
    F32(Tensor),
    Bf16(Vec<bf16>),
    /// Values, and a scale for every group of a row.
    Int8(Vec<i8>, Vec<f32>),
}

/// A matrix W, (out, in), in a storage type, multiplied with rows of activations on the CPU.
#[derive(Debug)]
pub(crate) struct QuantizedMatrix {
    storage: Storage,
    out: usize,
    inner: usize,
}

impl QuantizedMatrix {
    /// Quantizes a contiguous f32 tensor on the CPU, (out, in); as f32 its memory is shared.
    ///
    /// # Errors
    /// The tensor is not a contiguous f32 matrix on the CPU.
    pub(crate) fn new(tensor: &Tensor, weight_type: WeightType) -> Result<Self> {
        let (out, inner) = tensor.dims2()?;
        let values = Host::new(tensor)?;
        let storage = match weight_type {
            WeightType::F32 => Storage::F32(tensor.clone()),
            WeightType::Bf16 => {
                Storage::Bf16(values.par_iter().map(|&value| bf16::from_f32(value)).collect())
            }
            WeightType::Int8 => {
                let groups = inner.div_ceil(GROUP);
                let (mut quantized, mut scales) = (vec![0; out * inner], vec![0.0; out * groups]);
                quantized
                    .par_chunks_mut(inner.max(1))
                    .zip(scales.par_chunks_mut(groups.max(1)))
                    .zip(values.par_chunks(inner.max(1)))
                    .for_each(|((quantized, scales), values)| quantize(values, quantized, scales));
                Storage::Int8(quantized, scales)
            }
        };
        Ok(Self { storage, out, inner })
    }

    /// Output width, the rows of W.
    pub(crate) fn out(&self) -> usize {
        self.out
    }

    /// Input width, the columns of W.
    pub(crate) fn inner(&self) -> usize {
        self.inner
    }

    /// Bytes that a product reads.
    pub(crate) fn bytes(&self) -> usize {
        let count = self.out * self.inner;
        match &self.storage {
            Storage::F32(_) => 4 * count,
            Storage::Bf16(_) => 2 * count,
            Storage::Int8(_, scales) => count + 4 * scales.len(),
        }
    }

    /// Writes row `row` of W, dequantized, into `values`, (in).
    ///
    /// # Errors
    /// The f32 tensor cannot be read.
    ///
    /// # Panics
    /// There is no such row, or `values` has another width.
    pub(crate) fn row(&self, row: usize, values: &mut [f32]) -> Result<()> {
        let span = row * self.inner..(row + 1) * self.inner;
        match &self.storage {
            Storage::F32(tensor) => values.copy_from_slice(&Host::new(tensor)?[span]),
            Storage::Bf16(quantized) => {
                values.iter_mut().zip(&quantized[span]).for_each(|(v, q)| *v = q.to_f32());
            }
            Storage::Int8(quantized, scales) => {
                let groups = self.inner.div_ceil(GROUP);
                let scales = &scales[row * groups..(row + 1) * groups];
                let quantized = quantized[span].chunks(GROUP);
                for ((values, row), scale) in values.chunks_mut(GROUP).zip(quantized).zip(scales) {
                    values.iter_mut().zip(row).for_each(|(v, q)| *v = f32::from(*q) * scale);
                }
            }
        }
        Ok(())
    }

    /// y = x W^T: `x` (rows, in) to `y` (rows, out). Up to 16 rows, the result of a row is the same
    /// to the bit whatever the other rows and the number of threads.
    ///
    /// # Errors
    /// The sizes of `x` and `y` do not match the matrix.
    pub(crate) fn product(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let rows = x.len() / self.inner.max(1);
        if rows * self.inner != x.len() || rows * self.out != y.len() {
            return Err(Error::internal(format!(
                "a product of {} activations with a matrix of {} x {} into {} outputs",
                x.len(),
                self.out,
                self.inner,
                y.len()
            )));
        }
        if rows > MAX_FEW_ROWS {
            return self.many_rows(x, rows, y);
        }
        match &self.storage {
            Storage::F32(tensor) => self.few_rows(Plain(&Host::new(tensor)?), x, rows, y),
            Storage::Bf16(values) => self.few_rows(Plain(values), x, rows, y),
            Storage::Int8(values, scales) => self.few_rows(Int8 { values, scales }, x, rows, y),
        }
        Ok(())
    }

    fn few_rows(&self, weights: impl WeightRows, x: &[f32], rows: usize, y: &mut [f32]) {
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
            parts.for_each(|(index, y)| part(index * task..index * task + y.len(), y));
        } else {
            let parts: Vec<Vec<f32>> = (0..self.out.div_ceil(task))
                .into_par_iter()
                .map(|index| {
                    let span = index * task..self.out.min((index + 1) * task);
                    let mut y = vec![0.0; rows * span.len()];
                    part(span, &mut y);
                    y
                })
                .collect();
            concatenate_columns(&parts, rows, y);
        }
    }

    fn many_rows(&self, x: &[f32], rows: usize, y: &mut [f32]) -> Result<()> {
        let x = Matrix::new(x, rows, self.inner);
        if let Storage::F32(tensor) = &self.storage {
            let weight = Host::new(tensor)?;
            let weight = Matrix::new(&weight, self.out, self.inner).transposed();
            product(y, Into::Replace, 1.0, x, weight, Threads::All);
            return Ok(());
        }
        let blocks: Result<Vec<Vec<f32>>> = (0..self.out.div_ceil(DEQUANTIZED_ROWS))
            .into_par_iter()
            .map(|block| {
                let first = block * DEQUANTIZED_ROWS;
                let count = DEQUANTIZED_ROWS.min(self.out - first);
                let mut wide = vec![0.0; count * self.inner];
                for (index, row) in wide.chunks_exact_mut(self.inner).enumerate() {
                    self.row(first + index, row)?;
                }
                let wide = Matrix::new(&wide, count, self.inner).transposed();
                let mut part = vec![0.0; rows * count];
                product(&mut part, Into::Replace, 1.0, x, wide, Threads::One);
                Ok(part)
            })
            .collect();
        concatenate_columns(&blocks?, rows, y);
        Ok(())
    }
}

/// Concatenates `parts`, (rows, columns of the part) each, into `y`, (rows, all columns).
fn concatenate_columns(parts: &[Vec<f32>], rows: usize, y: &mut [f32]) {
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

/// Rounds each value to one of 255 steps between minus and plus the largest magnitude of its group.
fn quantize(values: &[f32], quantized: &mut [i8], scales: &mut [f32]) {
    let groups = values.chunks(GROUP).zip(quantized.chunks_mut(GROUP));
    for ((values, quantized), scale) in groups.zip(scales) {
        let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        *scale = largest / 127.0;
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        for (quantized, value) in quantized.iter_mut().zip(values) {
            *quantized = (value * inverse).round() as i8;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;

    const TYPES: [WeightType; 3] = [WeightType::F32, WeightType::Bf16, WeightType::Int8];

    fn values(seed: usize, count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 + seed * 31 + i * i % 13) % 199) as f32 / 99.0 - 1.0)
            .collect()
    }

    fn matrix(out: usize, inner: usize, weight_type: WeightType) -> (Vec<f32>, QuantizedMatrix) {
        let values = values(3, out * inner);
        let tensor = Tensor::from_slice(&values, (out, inner), &Device::Cpu).unwrap();
        (values, QuantizedMatrix::new(&tensor, weight_type).unwrap())
    }

    fn product(matrix: &QuantizedMatrix, x: &[f32]) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len() / matrix.inner() * matrix.out()];
        matrix.product(x, &mut y).unwrap();
        y
    }

    /// All rows, dequantized.
    fn dequantized(matrix: &QuantizedMatrix) -> Vec<f32> {
        let mut values = vec![0.0; matrix.out() * matrix.inner()];
        for (row, values) in values.chunks_exact_mut(matrix.inner()).enumerate() {
            matrix.row(row, values).unwrap();
        }
        values
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_product_is_that_of_the_dequantized_rows(
            rows in 1_usize..40, out in 1_usize..70, inner in 1_usize..200, kind in 0_usize..3,
        ) {
            let (_, matrix) = matrix(out, inner, TYPES[kind]);
            let (x, w) = (values(5, rows * inner), dequantized(&matrix));
            let y = product(&matrix, &x);
            for row in 0..rows {
                for o in 0..out {
                    let terms = (0..inner).map(|i| {
                        f64::from(x[row * inner + i]) * f64::from(w[o * inner + i])
                    });
                    let expected: f64 = terms.sum();
                    let error = (f64::from(y[row * out + o]) - expected).abs();
                    prop_assert!(error < 1e-6 * inner as f64, "{error}");
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_other_rows_or_on_the_threads() {
        for weight_type in TYPES {
            let (_, matrix) = matrix(700, 333, weight_type);
            let x = values(1, 16 * 333);
            let all = product(&matrix, &x);
            let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            assert_eq!(single.install(|| product(&matrix, &x)), all);
            assert_eq!(three.install(|| product(&matrix, &x)), all);
            for rows in 1..16 {
                assert_eq!(product(&matrix, &x[..rows * 333]), all[..rows * 700], "{rows}");
            }
        }
    }

    #[test]
    fn the_error_of_each_type_is_within_its_documented_bound() {
        for (weight_type, bytes) in TYPES.into_iter().zip([4.0, 2.0, 1.125]) {
            let (values, matrix) = matrix(9, 320, weight_type);
            let rows = dequantized(&matrix);
            for (row, values) in rows.chunks(GROUP).zip(values.chunks(GROUP)) {
                let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                for (quantized, value) in row.iter().zip(values) {
                    let bound = match weight_type {
                        WeightType::F32 => 0.0,
                        WeightType::Bf16 => value.abs() / 256.0,
                        WeightType::Int8 => largest / 254.0 * 1.0001,
                    };
                    assert!(
                        (quantized - value).abs() <= bound,
                        "{weight_type:?} {quantized} {value}"
                    );
                }
            }
            assert!((matrix.bytes() as f64 - bytes * 9.0 * 320.0).abs() < 1e-9);
        }
        assert!("int4".parse::<WeightType>().is_err());
    }

    #[test]
    fn activations_of_another_size_are_refused() {
        let (_, matrix) = matrix(4, 6, WeightType::F32);
        assert!(matrix.product(&[0.0; 7], &mut [0.0; 4]).is_err());
        assert!(matrix.product(&[0.0; 6], &mut [0.0; 5]).is_err());
    }
}
