//! How does a head know where a token stands?

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::host::{self, Host};
use super::reference;
use super::tape::{Tape, Value};
use crate::error::Result;

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

    /// Rotates every head of `x`, (B, T, H, head width); `direction` -1 turns back.
    fn rotate(&self, x: &Tensor, direction: f32) -> Result<Tensor> {
        let (_, tokens, heads, width) = x.dims4()?;
        let values = Host::new(x)?;
        let (row, half) = (heads * width, self.half);
        let y = host::new_rows(values.len(), row, |index, y| {
            let position = index % tokens * half;
            let (cos, sin) = (&self.cos[position..][..half], &self.sin[position..][..half]);
            let x = &values[index * row..(index + 1) * row];
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let (y_low, y_high) = y.split_at_mut(half);
                let (x_low, x_high) = x.split_at(half);
                for i in 0..half {
                    let sin = sin[i] * direction;
                    y_low[i] = x_low[i] * cos[i] - x_high[i] * sin;
                    y_high[i] = x_high[i] * cos[i] + x_low[i] * sin;
                }
            }
        });
        host::tensor(y, x.shape())
    }
}

/// Rotates the two halves of every head by its position: (B, T, H, head width).
///
/// # Errors
/// The table is for other positions or another width.
pub fn rope(tape: &Tape, x: &Value, table: &RopeTable) -> Result<Value> {
    if !tape.fuses(x.tensor()) {
        let (cos, sin) = table.tensors(x.tensor().device())?;
        return tape.composed(&[x], &[], |x, _| reference::rope(&x[0], &cos, &sin));
    }
    let output = table.rotate(&x.tensor().contiguous()?, 1.0)?;
    if !tape.needs(&[x], &[]) {
        return Ok(Value::constant(output));
    }
    let (table, slot) = (table.clone(), x.slot());
    Ok(tape
        .push(output, move |gradient, backward| backward.add(slot, table.rotate(&gradient, -1.0)?)))
}
