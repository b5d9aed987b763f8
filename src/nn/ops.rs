//! candle's inference-only kernels, for devices and types without a kernel here.
//!
//! They are used in the forward passes of teachers, evaluation and generation. They have no backward
//! pass and drop the gradient without an error, so this file alone may name them.
#![expect(clippy::disallowed_methods, reason = "the one file that may use them")]

use candle_core::{D, Tensor};

use crate::error::Result;

/// As [`super::reference::rms_norm`].
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    Ok(candle_nn::ops::rms_norm(&x.contiguous()?, &weight.contiguous()?, eps as f32)?)
}

/// As [`super::reference::layer_norm`].
pub(crate) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let weight = weight.contiguous()?;
    // The kernel requires a bias.
    let bias = bias.map_or_else(|| weight.zeros_like(), Tensor::contiguous)?;
    Ok(candle_nn::ops::layer_norm(&x.contiguous()?, &weight, &bias, eps as f32)?)
}

/// As [`super::reference::rope`]: x (B, T, H, head width); cos and sin (T, head width / 2).
pub(crate) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let table = |table: &Tensor| table.to_dtype(x.dtype())?.contiguous();
    Ok(candle_nn::rotary_emb::rope_thd(&x.contiguous()?, &table(cos)?, &table(sin)?)?)
}

/// Softmax over the last axis: fused, unless candle's graph tracks `x`.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    Ok(if x.track_op() {
        candle_nn::ops::softmax(x, D::Minus1)?
    } else {
        candle_nn::ops::softmax_last_dim(&x.contiguous()?)?
    })
}
