//! CPU tensors as slices: reading their storage, making new ones, adding two.

use std::ops::{Deref, Range};

use candle_core::{DType, Device, Shape, Storage, StorageRef, Tensor};

use crate::error::{Error, Result};

pub(crate) use super::arithmetic::{dot, erfc, exp, map_and_sum, max, sum_of, sums_of};
pub(crate) use super::loops::{
    add_to, copy, fill_ranges, fill_rows, fill_rows_and_sum, new_ranges, new_ranges_with,
    new_row_pairs, new_rows, new_rows_and_sum, sum_over_rows, vectorised, zeros,
};

/// A read lock on the storage of a contiguous f32 tensor on the CPU.
pub(crate) struct Host<'a> {
    guard: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Host<'a> {
    /// Locks `tensor` for reading.
    pub(crate) fn new(tensor: &'a Tensor) -> Result<Self> {
        let (guard, layout) = tensor.storage_and_layout();
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or_else(|| Error::internal("a kernel was given a strided tensor"))?;
        match &*guard {
            Storage::Cpu(_) if tensor.dtype() == DType::F32 => {
                Ok(Self { guard, range: start..end })
            }
            _ => Err(Error::internal("a CPU kernel was given a tensor that is not f32 on the CPU")),
        }
    }
}

impl Deref for Host<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(storage) => match storage.as_slice::<f32>() {
                Ok(values) => &values[self.range.clone()],
                Err(_) => &[],
            },
            _ => &[],
        }
    }
}

/// Whether the CPU kernels accept `tensor`: f32, on the CPU.
pub(crate) fn is_host(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// A contiguous f32 copy of `tensor` on the CPU; shares its memory if it is one.
pub(crate) fn to_host(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?)
}

/// A CPU tensor that takes over `values`, without a copy.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape.into(), &Device::Cpu)?)
}

/// The sum of two CPU tensors of equal size, in the shape of the second.
pub(crate) fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (x, y) = (Host::new(a)?, Host::new(b)?);
    let (x, y): (&[f32], &[f32]) = (&x, &y);
    let sum = new_ranges(
        x.len(),
        #[inline(always)]
        |range, values| {
            let both = x[range.clone()].iter().zip(&y[range]);
            for (value, (x, y)) in values.iter_mut().zip(both) {
                *value = x + y;
            }
        },
    );
    tensor(sum, b.shape())
}
