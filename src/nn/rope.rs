//! Rotary position embedding: the two halves of a head are rotated by the position. Su et al. 2021.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::autograd::{Tape, Value};
use crate::error::Result;
use crate::kernels::host::{self, Host};

/// Cosines and sines of the positions of one forward pass, each (T, head width / 2).
#[derive(Debug, Clone)]
pub struct RopeTable {
    cos: Arc<Vec<f32>>,
    sin: Arc<Vec<f32>>,
    half: usize,
}

impl RopeTable {
    /// The rotations of `tokens` positions from `start`, for the given inverse frequencies,
    /// (head width / 2).
    #[must_use]
    pub fn new(inverse_frequencies: &[f32], start: usize, tokens: usize) -> Self {
        Self::at_positions(inverse_frequencies, start..start + tokens)
    }

    /// The rotations of any positions, for the given inverse frequencies, (head width / 2).
    pub(crate) fn at_positions(
        inverse_frequencies: &[f32],
        positions: impl Iterator<Item = usize>,
    ) -> Self {
        let angles = positions
            .flat_map(|position| inverse_frequencies.iter().map(move |f| position as f32 * f));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self { cos: Arc::new(cos), sin: Arc::new(sin), half: inverse_frequencies.len() }
    }

    /// Rotates every head of one token, (H, head width), in place, for decoding; `token` is the
    /// index of its position in the table.
    pub(crate) fn rotate_token(&self, token: usize, heads: &mut [f32]) {
        self.rotate_heads(token, heads, 1.0);
    }

    /// Rotates every head of one token, (H, head width), in place; `direction` -1 is the inverse
    /// rotation.
    // y_low = x_low cos - x_high sin, y_high = x_high cos + x_low sin; Su et al. 2021
    #[inline(always)]
    fn rotate_heads(&self, token: usize, heads: &mut [f32], direction: f32) {
        let half = self.half;
        let start = token * half;
        let (cos, sin) = (&self.cos[start..][..half], &self.sin[start..][..half]);
        for head in heads.chunks_exact_mut(2 * half) {
            let (low, high) = head.split_at_mut(half);
            let high = &mut high[..half];
            for i in 0..half {
                let sin = sin[i] * direction;
                let (x, y) = (low[i], high[i]);
                low[i] = x * cos[i] - y * sin;
                high[i] = y * cos[i] + x * sin;
            }
        }
    }

    /// Cosines and sines as tensors, each (T, head width / 2).
    fn tensors(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let shape = (self.cos.len() / self.half, self.half);
        let cos = Tensor::from_slice(&self.cos, shape, device)?;
        Ok((cos, Tensor::from_slice(&self.sin, shape, device)?))
    }
}

/// Rotates the two halves of every head by the position of its token: (B, T, H, head width).
///
/// # Errors
/// The table has another number of positions or another width.
pub fn rope(tape: &Tape, x: &Value, table: &RopeTable) -> Result<Value> {
    if !tape.has_cpu_kernel(x.tensor()) {
        let (cos, sin) = table.tensors(x.tensor().device())?;
        if tape.is_inference(&[x], &[]) {
            return Ok(Value::constant(inference::rope(x.tensor(), &cos, &sin)?));
        }
        return tape.composed(&[x], &[], |x, _| composed(&x[0], &cos, &sin));
    }
    let (_, tokens, heads, width) = x.tensor().dims4()?;
    let row_width = heads * width;
    let output = {
        let input = x.tensor().contiguous()?;
        let input = Host::new(&input)?;
        let input: &[f32] = &input;
        let rotated = host::new_rows(
            input.len(),
            row_width,
            #[inline(always)]
            |row, output| {
                output.copy_from_slice(&input[row * row_width..(row + 1) * row_width]);
                table.rotate_heads(row % tokens, output, 1.0);
            },
        );
        host::tensor(rotated, x.tensor().shape())?
    };
    if !tape.requires_grad(&[x], &[]) {
        return Ok(Value::constant(output));
    }
    let (table, slot, shape) = (table.clone(), x.slot(), x.tensor().shape().clone());
    Ok(tape.push_host(output, move |mut gradient, backward| {
        host::fill_rows(
            &mut gradient,
            row_width,
            #[inline(always)]
            |row, heads| table.rotate_heads(row % tokens, heads, -1.0),
        );
        backward.add_vec(slot, gradient, &shape)
    }))
}

/// [`rope`] composed of candle's operations, with cosines and sines, (T, head width / 2).
fn composed(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = cos.dim(1)?;
    let table = |t: &Tensor| Ok::<_, crate::Error>(t.to_dtype(x.dtype())?.unsqueeze(1)?);
    let (cos, sin) = (table(cos)?, table(sin)?);
    let (low, high) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let rotated_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let rotated_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    Ok(Tensor::cat(&[rotated_low, rotated_high], 3)?)
}

/// candle's kernel, for devices and types without one here. It drops the gradient.
#[expect(clippy::disallowed_methods, reason = "called where no gradient is required")]
mod inference {
    use candle_core::Tensor;

    use crate::error::Result;

    pub(super) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let table = |table: &Tensor| table.to_dtype(x.dtype())?.contiguous();
        Ok(candle_nn::rotary_emb::rope_thd(&x.contiguous()?, &table(cos)?, &table(sin)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::test_support::{assert_close, wave};

    #[test]
    fn the_inference_kernel_agrees_with_the_composed_operations() {
        let x = wave(&[2, 3, 7, 10], 0.0).transpose(1, 2).unwrap();
        let (cos, sin) = (wave(&[7, 5], 0.2), wave(&[7, 5], 1.3));
        let fused = inference::rope(&x, &cos, &sin).unwrap();
        assert_close(&fused, &composed(&x, &cos, &sin).unwrap());
    }
}
