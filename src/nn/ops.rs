//! What may candle's kernels without a backward pass be used for?
//!
//! For what nothing is asked back through: the forward passes of teachers, of evaluation and of
//! generation, on devices and in types that have no kernel here. They are named in this file
//! alone, because a gradient that meets them ends there in silence.
#![expect(clippy::disallowed_methods, reason = "this is the place they are banned to")]

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
    // The kernel knows no norm without bias.
    let bias = bias.map_or_else(|| weight.zeros_like(), Tensor::contiguous)?;
    Ok(candle_nn::ops::layer_norm(&x.contiguous()?, &weight, &bias, eps as f32)?)
}

/// As [`super::reference::rope`]: x (B, T, H, head width); cos and sin (T, head width / 2).
pub(crate) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let table = |table: &Tensor| table.to_dtype(x.dtype())?.contiguous();
    Ok(candle_nn::rotary_emb::rope_thd(&x.contiguous()?, &table(cos)?, &table(sin)?)?)
}

/// Softmax over the last axis: fused, unless candle's graph leads through `x`.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    Ok(if x.track_op() {
        candle_nn::ops::softmax(x, D::Minus1)?
    } else {
        candle_nn::ops::softmax_last_dim(&x.contiguous()?)?
    })
}
