//! The logit of a halting head: a normed state projected on one direction.
//!
//! Composed of candle's operations: one scalar for each token, so its cost is negligible.

use candle_core::{D, DType};

use super::norm::composed_rms_norm;
use crate::autograd::{Tape, Value, Weight};
use crate::error::Result;

/// w . h / sqrt(mean(h^2) + eps) + b_i of states h, (.., D), with the weight w, (D), and the bias
/// b_i at `index`: (.., 1), f32.
///
/// # Errors
/// The widths differ, or `index` is past the last bias.
pub(crate) fn halting_logit(
    tape: &Tape,
    state: &Value,
    (weight, biases): (&Weight, &Weight),
    index: usize,
    eps: f64,
) -> Result<Value> {
    tape.composed(&[state], &[weight, biases], |x, weights| {
        let scaled = composed_rms_norm(&x[0], &weights[0], eps)?.to_dtype(DType::F32)?;
        let bias = weights[1].narrow(0, index, 1)?.to_dtype(DType::F32)?;
        Ok(scaled.sum_keepdim(D::Minus1)?.broadcast_add(&bias)?)
    })
}
