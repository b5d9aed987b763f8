//! Rotary position embedding: the two halves of a head are rotated by the position. Su et al. 2021.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{ops, reference};
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
    /// The rotations of `tokens` positions from `start`, for the given inverse frequencies
    /// (head width / 2). Su et al. 2021.
    #[must_use]
    pub fn new(inverse_frequencies: &[f32], start: usize, tokens: usize) -> Self {
        let half = inverse_frequencies.len();
        let angles = (start..start + tokens)
            .flat_map(|position| inverse_frequencies.iter().map(move |f| position as f32 * f));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self { cos: Arc::new(cos), sin: Arc::new(sin), half }
    }

    /// Cosines and sines as tensors, each (T, head width / 2).
    pub(crate) fn tensors(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let shape = (self.cos.len() / self.half, self.half);
        let cos = Tensor::from_slice(&self.cos, shape, device)?;
        Ok((cos, Tensor::from_slice(&self.sin, shape, device)?))
    }

    /// Rotates every head of one row of (B T, H, head width) in place; `direction` -1 is the inverse
    /// rotation.
    // y_low = x_low cos - x_high sin, y_high = x_high cos + x_low sin; Su et al. 2021
    #[inline(always)]
    fn rotate_row(&self, tokens: usize, row: usize, heads: &mut [f32], direction: f32) {
        let half = self.half;
        let position = row % tokens * half;
        let (cos, sin) = (&self.cos[position..][..half], &self.sin[position..][..half]);
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

    /// Rotates every head of (B, T, H, head width) in place.
    fn rotate(&self, values: &mut [f32], (tokens, row_width): (usize, usize), direction: f32) {
        host::fill_rows(
            values,
            row_width,
            #[inline(always)]
            |row, heads| self.rotate_row(tokens, row, heads, direction),
        );
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
            return Ok(Value::constant(ops::rope(x.tensor(), &cos, &sin)?));
        }
        return tape.composed(&[x], &[], |x, _| reference::rope(&x[0], &cos, &sin));
    }
    let (_, tokens, heads, width) = x.tensor().dims4()?;
    let sizes = (tokens, heads * width);
    let output = {
        let input = x.tensor().contiguous()?;
        let input = Host::new(&input)?;
        let input: &[f32] = &input;
        let rotated = host::new_rows(
            input.len(),
            sizes.1,
            #[inline(always)]
            |row, output| {
                output.copy_from_slice(&input[row * sizes.1..(row + 1) * sizes.1]);
                table.rotate_row(tokens, row, output, 1.0);
            },
        );
        host::tensor(rotated, x.tensor().shape())?
    };
    if !tape.requires_grad(&[x], &[]) {
        return Ok(Value::constant(output));
    }
    let (table, slot, shape) = (table.clone(), x.slot(), x.tensor().shape().clone());
    Ok(tape.push_host(output, move |mut gradient, backward| {
        table.rotate(&mut gradient, sizes, -1.0);
        backward.add_vec(slot, gradient, &shape)
    }))
}
