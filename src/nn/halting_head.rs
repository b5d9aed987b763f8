//! How far does a state lie along a direction?
//!
//! One number for each token: composed operations are quick enough.

use candle_core::{D, DType};

use super::reference;
use crate::autograd::{Tape, Value, Weight};
use crate::error::Result;

/// w . h / sqrt(mean(h^2) + eps) + b_i of states h, (.., D), by a weight w, (D), and the number
/// `index` of the biases b: (.., 1), f32.
///
/// # Errors
/// The width is another, or there are fewer biases.
pub fn along(
    tape: &Tape,
    state: &Value,
    (weight, biases): (&Weight, &Weight),
    index: usize,
    eps: f64,
) -> Result<Value> {
    tape.composed(&[state], &[weight, biases], |x, weights| {
        let scaled = reference::rms_norm(&x[0], &weights[0], eps)?.to_dtype(DType::F32)?;
        let bias = weights[1].narrow(0, index, 1)?.to_dtype(DType::F32)?;
        Ok(scaled.sum_keepdim(D::Minus1)?.broadcast_add(&bias)?)
    })
}
