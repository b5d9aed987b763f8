//! Injection of the prelude's output into the state between two repetitions.
//!
//! Composed of candle's operations: the cost is negligible beside that of the blocks.

use candle_core::D;

use super::norm::composed_rms_norm;
use super::sigmoid::sigmoid;
use crate::autograd::{Tape, Value, Weight};
use crate::error::{Error, Result};

/// a * state + b * prelude_state, dimension by dimension: states (.., D), `alpha` and `b` (D).
/// `alpha` gives a = exp(-softplus(alpha)), between 0 and 1; without it a = 1.
///
/// # Errors
/// The shapes differ.
pub(crate) fn inject_linear(
    tape: &Tape,
    state: &Value,
    prelude_state: &Value,
    alpha: Option<&Weight>,
    b: &Weight,
) -> Result<Value> {
    check(state, prelude_state)?;
    let weights: Vec<&Weight> = std::iter::once(b).chain(alpha).collect();
    tape.composed(&[state, prelude_state], &weights, |x, weights| {
        let retained = match weights.get(1) {
            Some(alpha) => x[0].broadcast_mul(&sigmoid(&alpha.neg()?)?)?,
            None => x[0].clone(),
        };
        Ok((retained + x[1].broadcast_mul(&weights[0])?)?)
    })
}

/// s * state + (1 - s) * prelude_state, both (.., D), with one s = sigmoid(weight . norm(state) + bias)
/// for each token; `weight` is (D), `bias` (1), and the norm is an RMS norm.
///
/// # Errors
/// The shapes differ.
pub(crate) fn inject_gated(
    tape: &Tape,
    state: &Value,
    prelude_state: &Value,
    (weight, bias): (&Weight, &Weight),
    eps: f64,
) -> Result<Value> {
    check(state, prelude_state)?;
    tape.composed(&[state, prelude_state], &[weight, bias], |x, weights| {
        let projection = composed_rms_norm(&x[0], &weights[0], eps)?.sum_keepdim(D::Minus1)?;
        let s = sigmoid(&projection.broadcast_add(&weights[1])?)?;
        Ok((&x[1] + (&x[0] - &x[1])?.broadcast_mul(&s)?)?)
    })
}

fn check(state: &Value, prelude_state: &Value) -> Result<()> {
    let (state, injected) = (state.tensor().dims(), prelude_state.tensor().dims());
    if state == injected {
        return Ok(());
    }
    Err(Error::internal(format!("a state of {injected:?} is injected into one of {state:?}")))
}
