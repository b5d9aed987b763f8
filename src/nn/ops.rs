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

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::reference;
    use super::*;

    /// Rounding of sums of f32 in two orders, of numbers near 1.
    const F32_SUMS: f32 = 1e-5;

    fn wave(shape: &[usize], phase: f32) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> =
            (0..count).map(|index| 2.0 * (index as f32 * 0.37 + phase).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[track_caller]
    fn assert_same(fused: &Tensor, composed: &Tensor) {
        assert_eq!(fused.dims(), composed.dims());
        let off = (fused - composed).unwrap().abs().unwrap().max_all().unwrap();
        let off = off.to_scalar::<f32>().unwrap();
        assert!(off < F32_SUMS, "off by {off}");
    }

    #[test]
    fn norms_are_those_of_the_reference() {
        // Strided: the kernels want contiguous numbers.
        let x = wave(&[3, 40, 50], 0.0).transpose(0, 1).unwrap();
        let (weight, bias) = (wave(&[50], 0.3), wave(&[50], 0.9));
        let composed = reference::rms_norm(&x, &weight, 1e-5).unwrap();
        assert_same(&rms_norm(&x, &weight, 1e-5).unwrap(), &composed);
        let composed = reference::layer_norm(&x, std::slice::from_ref(&weight), 1e-5).unwrap();
        assert_same(&layer_norm(&x, &weight, None, 1e-5).unwrap(), &composed);
        let composed = reference::layer_norm(&x, &[weight.clone(), bias.clone()], 1e-5).unwrap();
        assert_same(&layer_norm(&x, &weight, Some(&bias), 1e-5).unwrap(), &composed);
    }

    #[test]
    fn rotations_are_those_of_the_reference() {
        let x = wave(&[2, 3, 7, 10], 0.0).transpose(1, 2).unwrap();
        let (cos, sin) = (wave(&[7, 5], 0.2), wave(&[7, 5], 1.3));
        assert_same(&rope(&x, &cos, &sin).unwrap(), &reference::rope(&x, &cos, &sin).unwrap());
    }

    #[test]
    fn softmax_is_fused_where_no_graph_leads_through_it() {
        let mut rows = wave(&[6, 41], 0.0).to_vec2::<f32>().unwrap();
        rows[2][7..].fill(f32::NEG_INFINITY);
        let x = Tensor::new(rows, &Device::Cpu).unwrap();
        let composed = candle_nn::ops::softmax(&x, D::Minus1).unwrap();
        assert_same(&softmax(&x).unwrap(), &composed);
        let tracked = Var::from_tensor(&x).unwrap();
        let output = softmax(tracked.as_tensor()).unwrap();
        assert!(output.track_op());
        assert_same(&output, &composed);
    }
}
