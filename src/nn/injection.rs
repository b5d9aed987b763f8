//! How does what was there first stay heard while a state is changed again and again?
//!
//! A few numbers for each token between blocks of thousands: composed operations are quick enough.

use candle_core::D;

use super::reference::{self, sigmoid};
use crate::autograd::{Tape, Value, Weight};
use crate::error::{Error, Result};

/// a * state + b * first, dimension by dimension: (.., D) twice, and D.
/// a = exp(-softplus(alpha)) = sigmoid(-alpha), between 0 and 1; 1 without `alpha`.
///
/// # Errors
/// The shapes differ.
pub fn mix(
    tape: &Tape,
    state: &Value,
    first: &Value,
    alpha: Option<&Weight>,
    b: &Weight,
) -> Result<Value> {
    check(state, first)?;
    let weights: Vec<&Weight> = std::iter::once(b).chain(alpha).collect();
    tape.composed(&[state, first], &weights, |x, weights| {
        let kept = match weights.get(1) {
            Some(alpha) => x[0].broadcast_mul(&sigmoid(&alpha.neg()?)?)?,
            None => x[0].clone(),
        };
        Ok((kept + x[1].broadcast_mul(&weights[0])?)?)
    })
}

/// s * state + (1 - s) * first, both (.., D), where s = sigmoid(weight . norm(state) + bias) is one
/// number for each token; `weight` is (D), `bias` (1), and the norm is that of
/// [`super::norm::rms_norm`].
///
/// # Errors
/// The shapes differ.
pub fn gate(
    tape: &Tape,
    state: &Value,
    first: &Value,
    (weight, bias): (&Weight, &Weight),
    eps: f64,
) -> Result<Value> {
    check(state, first)?;
    tape.composed(&[state, first], &[weight, bias], |x, weights| {
        let along = reference::rms_norm(&x[0], &weights[0], eps)?.sum_keepdim(D::Minus1)?;
        let s = sigmoid(&along.broadcast_add(&weights[1])?)?;
        Ok((&x[1] + (&x[0] - &x[1])?.broadcast_mul(&s)?)?)
    })
}

fn check(state: &Value, first: &Value) -> Result<()> {
    let (state, first) = (state.tensor().dims(), first.tensor().dims());
    if state == first {
        return Ok(());
    }
    Err(Error::internal(format!("a state of {first:?} is injected into one of {state:?}")))
}
