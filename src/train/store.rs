//! Storage of the moments and averages of a parameter.

use std::borrow::Cow;

use candle_core::{DType, Tensor, Var};
use safetensors::tensor::{Dtype, View};

use super::kernels;
use crate::error::{Error, Result};

/// One f32 per element of a parameter.
#[derive(Debug)]
pub(super) enum Store {
    /// Of an f32 parameter on the CPU, updated by the fused kernels.
    Host(Vec<f32>),
    /// Of any other parameter, updated by tensor operations.
    Tensor(Tensor),
}

/// Whether a parameter is updated by the fused kernels.
pub(super) fn is_fused(var: &Var) -> bool {
    var.device().is_cpu() && var.dtype() == DType::F32 && var.is_contiguous()
}

impl Store {
    /// Zeros, on the host or as a tensor on the parameter's device.
    pub(super) fn zeros(var: &Var, fused: bool) -> Result<Self> {
        Ok(if fused {
            Self::Host(vec![0.0; var.elem_count()])
        } else {
            Self::Tensor(Tensor::zeros(var.dims(), DType::F32, var.device())?)
        })
    }

    /// A copy of the parameter.
    pub(super) fn copy_of(var: &Var) -> Result<Self> {
        Ok(if is_fused(var) {
            Self::Host(kernels::with_host(var, <[f32]>::to_vec)?)
        } else {
            // A plain conversion from f32 to f32 would share memory with the parameter.
            Self::Tensor(var.as_detached_tensor().to_dtype(DType::F32)?.copy()?)
        })
    }

    /// Loads the saved tensor named `name`.
    pub(super) fn load(&mut self, name: &str, saved: &Tensor, var: &Var) -> Result<()> {
        if saved.dims() != var.dims() {
            return Err(Error::input(format!(
                "the checkpoint's `{name}` is {:?}, the model expects {:?}",
                saved.dims(),
                var.dims()
            )));
        }
        let saved = saved.to_dtype(DType::F32)?;
        match self {
            Self::Host(values) => *values = saved.flatten_all()?.to_vec1()?,
            Self::Tensor(tensor) => *tensor = saved.to_device(var.device())?,
        }
        Ok(())
    }

    /// The values as a tensor on the parameter's device.
    pub(super) fn to_tensor(&self, var: &Var) -> Result<Tensor> {
        Ok(match self {
            Self::Host(values) => Tensor::from_slice(values, var.dims(), var.device())?,
            Self::Tensor(tensor) => tensor.clone(),
        })
    }

    /// The view that is written into a checkpoint.
    pub(super) fn saved<'a>(&'a self, var: &'a Var) -> Saved<'a> {
        match self {
            Self::Host(values) => Saved::Host { values, shape: var.dims() },
            Self::Tensor(tensor) => Saved::Tensor(tensor.clone()),
        }
    }
}

/// A tensor to be written into a file, converted to bytes one at a time.
pub(super) enum Saved<'a> {
    Host { values: &'a [f32], shape: &'a [usize] },
    Tensor(Tensor),
}

impl View for Saved<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Host { .. } => Dtype::F32,
            Self::Tensor(tensor) => View::dtype(&tensor),
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Host { shape, .. } => shape,
            Self::Tensor(tensor) => tensor.dims(),
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Host { values, .. } => {
                Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
            Self::Tensor(tensor) => Cow::Owned(View::data(&tensor).into_owned()),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Host { values, .. } => size_of_val(*values),
            Self::Tensor(tensor) => View::data_len(&tensor),
        }
    }
}
