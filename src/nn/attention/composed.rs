//! Attention composed of candle's operations, for devices and types without a kernel here.

use candle_core::{DType, Tensor};

use super::shape::AttentionShape;
use crate::error::Result;

/// Attention composed of candle's operations: q (B, T, H, head width), k and v
/// (B, keys, kv heads, head width).
pub(super) fn composed(
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
    let weights = inference::softmax(&scores.broadcast_add(&mask)?)?;
    let output = weights.to_dtype(v.dtype())?.matmul(&repeat_heads(v)?)?;
    Ok(output.transpose(1, 2)?.contiguous()?)
}

/// candle's kernel, for devices and types without one here. It drops the gradient.
#[expect(clippy::disallowed_methods, reason = "called where no gradient is required")]
mod inference {
    use candle_core::{D, Tensor};

    use crate::error::Result;

    /// Softmax over the last axis: fused, unless candle's graph tracks `x`.
    pub(super) fn softmax(x: &Tensor) -> Result<Tensor> {
        Ok(if x.track_op() {
            candle_nn::ops::softmax(x, D::Minus1)?
        } else {
            candle_nn::ops::softmax_last_dim(&x.contiguous()?)?
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device, Var};

    use super::*;
    use crate::nn::test_support::{assert_close, wave};

    #[test]
    fn softmax_is_fused_unless_a_graph_tracks_its_input() {
        let mut rows = wave(&[6, 41], 0.0).to_vec2::<f32>().unwrap();
        rows[2][7..].fill(f32::NEG_INFINITY);
        let x = Tensor::new(rows, &Device::Cpu).unwrap();
        let expected = candle_nn::ops::softmax(&x, D::Minus1).unwrap();
        assert_close(&inference::softmax(&x).unwrap(), &expected);
        let tracked = Var::from_tensor(&x).unwrap();
        let output = inference::softmax(tracked.as_tensor()).unwrap();
        assert!(output.track_op());
        assert_close(&output, &expected);
    }
}
