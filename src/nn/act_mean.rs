//! What is the mean of a token's states, when gates say how much each of them counts?
//!
//! A few passes over the states between blocks of thousands: composed operations are quick enough.

use candle_core::Tensor;

use super::reference::sigmoid;
use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};

/// sum p_n h_n over the N `states` h, (B, T, D) each, and what is left for the last, (B, T, 1):
/// p_n = sigmoid(g_n) of the `gates` g, (B, T, 1) each in f32, before the repetition at which a token
/// stops, counted from 1 in `stops`, B T of them, and there p_n = 1 - sum over m < n of p_m.
/// Graves 2016.
///
/// # Errors
/// The shapes differ, or there are not as many gates as states.
pub fn weighted_mean(
    tape: &Tape,
    states: &[Value],
    gates: &[Value],
    stops: &[usize],
) -> Result<(Value, Value)> {
    if states.len() != gates.len() || states.is_empty() {
        return Err(Error::internal(format!("{} states, {} gates", states.len(), gates.len())));
    }
    let like = gates[0].tensor();
    let mask = |of: &dyn Fn(usize) -> bool| {
        let mask: Vec<f32> = stops.iter().map(|&stop| f32::from(u8::from(of(stop)))).collect();
        Ok::<_, Error>(Tensor::from_vec(mask, like.shape(), like.device())?)
    };
    // Which tokens go on after each state, and which stop at it.
    let goes_on: Vec<Tensor> =
        (1..=states.len()).map(|n| mask(&|stop| n < stop)).collect::<Result<_>>()?;
    let ends: Vec<Tensor> =
        (1..=states.len()).map(|n| mask(&|stop| n == stop)).collect::<Result<_>>()?;
    let inputs: Vec<&Value> = gates.iter().collect();
    let left = tape.composed(&inputs, &[], |gates, _| {
        let mut left = like.ones_like()?;
        for (gate, goes_on) in gates.iter().zip(&goes_on) {
            left = (left - (sigmoid(gate)? * goes_on)?)?;
        }
        Ok(left)
    })?;
    let inputs: Vec<&Value> = states.iter().chain(gates).chain([&left]).collect();
    let mean = tape.composed(&inputs, &[], |inputs, _| {
        let (states, rest) = inputs.split_at(states.len());
        let mut mean = states[0].zeros_like()?;
        for (n, state) in states.iter().enumerate() {
            let p = ((sigmoid(&rest[n])? * &goes_on[n])? + (&rest[gates.len()] * &ends[n])?)?;
            mean = (mean + state.broadcast_mul(&p.to_dtype(state.dtype())?)?)?;
        }
        Ok(mean)
    })?;
    Ok((mean, left))
}
