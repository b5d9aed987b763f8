//! Every operation composed of candle's: the path of devices without a kernel, and the reference the
//! kernels are tested against.

use candle_core::{D, DType, Tensor};

use super::ops;
use super::shapes::{AttentionShape, GeluForm};
use crate::error::Result;

/// x (W + B A)^T + bias; `weights` is W, then the bias, then A and B, where they exist.
pub(crate) fn linear(x: &Tensor, weights: &[Tensor], bias: bool, low_rank: bool) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let inner = shape.pop().unwrap_or(1);
    shape.push(weights[0].dim(0)?);
    let flat = x.contiguous()?.reshape(((), inner))?;
    let mut y = flat.matmul(&weights[0].t()?)?;
    if low_rank {
        let first = 1 + usize::from(bias);
        y = (y + flat.matmul(&weights[first].t()?)?.matmul(&weights[first + 1].t()?)?)?;
    }
    if bias {
        y = y.broadcast_add(&weights[1])?;
    }
    Ok(y.reshape(shape)?)
}

pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let mean = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let unit = wide.broadcast_div(&(mean + eps)?.sqrt()?)?.to_dtype(x.dtype())?;
    Ok(unit.broadcast_mul(weight)?)
}

/// `weights` is the weight, then the bias, if there is one.
pub(crate) fn layer_norm(x: &Tensor, weights: &[Tensor], eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let unit = centred.broadcast_div(&(variance + eps)?.sqrt()?)?.to_dtype(x.dtype())?;
    let y = unit.broadcast_mul(&weights[0])?;
    weights.get(1).map_or(Ok(y.clone()), |bias| Ok(y.broadcast_add(bias)?))
}

/// x (B, T, H, head width); cos and sin (T, head width / 2).
pub(crate) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = cos.dim(1)?;
    let table = |t: &Tensor| Ok::<_, crate::Error>(t.to_dtype(x.dtype())?.unsqueeze(1)?);
    let (cos, sin) = (table(cos)?, table(sin)?);
    let (low, high) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let rotated_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let rotated_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    Ok(Tensor::cat(&[rotated_low, rotated_high], 3)?)
}

// 1 / (1 + exp(-x)) without an exponential that overflows.
pub(crate) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((((x * 0.5)?.tanh()? + 1.0)? * 0.5)?)
}

pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Ok((gate.silu()? * up)?)
}

pub(crate) fn gelu(x: &Tensor, form: GeluForm) -> Result<Tensor> {
    Ok(match form {
        GeluForm::Tanh => x.gelu()?,
        GeluForm::Erf => x.gelu_erf()?,
    })
}

pub(crate) fn gated_gelu(gate: &Tensor, up: &Tensor, form: GeluForm) -> Result<Tensor> {
    Ok((gelu(gate, form)? * up)?)
}

/// q (B, T, H, head width); k, v (B, keys, kv heads, head width).
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: &AttentionShape,
) -> Result<Tensor> {
    let (batch, queries, heads, width) = q.dims4()?;
    let (_, keys, kv_heads, _) = k.dims4()?;
    let group = heads / kv_heads;
    let repeat_heads = |x: &Tensor| -> Result<Tensor> {
        let x = x.transpose(1, 2)?.unsqueeze(2)?;
        let x = x.broadcast_as((batch, kv_heads, group, keys, width))?;
        Ok(x.contiguous()?.reshape((batch, heads, keys, width))?)
    };
    let q = q.transpose(1, 2)?.contiguous()?;
    let scores =
        (q.matmul(&repeat_heads(k)?.t()?)? / (width as f64).sqrt())?.to_dtype(DType::F32)?;
    let mask: Vec<f32> = (0..queries)
        .flat_map(|query| {
            (0..keys)
                .map(move |key| if shape.attends(query, key) { 0.0 } else { f32::NEG_INFINITY })
        })
        .collect();
    let mask = Tensor::from_vec(mask, (queries, keys), q.device())?;
    let weights = ops::softmax(&scores.broadcast_add(&mask)?)?;
    let output = weights.to_dtype(v.dtype())?.matmul(&repeat_heads(v)?)?;
    Ok(output.transpose(1, 2)?.contiguous()?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Rounding of sums of f32 in two orders, of values near 1.
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
        // Strided: the kernels require contiguous tensors.
        let x = wave(&[3, 40, 50], 0.0).transpose(0, 1).unwrap();
        let (weight, bias) = (wave(&[50], 0.3), wave(&[50], 0.9));
        let composed = rms_norm(&x, &weight, 1e-5).unwrap();
        assert_same(&ops::rms_norm(&x, &weight, 1e-5).unwrap(), &composed);
        let composed = layer_norm(&x, std::slice::from_ref(&weight), 1e-5).unwrap();
        assert_same(&ops::layer_norm(&x, &weight, None, 1e-5).unwrap(), &composed);
        let composed = layer_norm(&x, &[weight.clone(), bias.clone()], 1e-5).unwrap();
        assert_same(&ops::layer_norm(&x, &weight, Some(&bias), 1e-5).unwrap(), &composed);
    }

    #[test]
    fn rotations_are_those_of_the_reference() {
        let x = wave(&[2, 3, 7, 10], 0.0).transpose(1, 2).unwrap();
        let (cos, sin) = (wave(&[7, 5], 0.2), wave(&[7, 5], 1.3));
        assert_same(&ops::rope(&x, &cos, &sin).unwrap(), &rope(&x, &cos, &sin).unwrap());
    }

    #[test]
    fn softmax_is_fused_unless_a_graph_tracks_its_input() {
        let mut rows = wave(&[6, 41], 0.0).to_vec2::<f32>().unwrap();
        rows[2][7..].fill(f32::NEG_INFINITY);
        let x = Tensor::new(rows, &Device::Cpu).unwrap();
        let composed = candle_nn::ops::softmax(&x, D::Minus1).unwrap();
        assert_same(&ops::softmax(&x).unwrap(), &composed);
        let tracked = Var::from_tensor(&x).unwrap();
        let output = ops::softmax(tracked.as_tensor()).unwrap();
        assert!(output.track_op());
        assert_same(&output, &composed);
    }
}
