//! The mean of a token's states under the halting probabilities of ACT. Graves 2016.
//!
//! Composed of candle's operations: its cost is negligible beside that of the blocks.

use candle_core::Tensor;

use super::sigmoid::sigmoid;
use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};

/// sum_n p_n h_n over the N `states` h, (B, T, D) each, and the remainder, (B, T, 1), which is the
/// weight of the last state. `gates` are logits g, (B, T, 1) each in f32; `stops` are the
/// repetitions at which the B T tokens stop, counted from 1.
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
    let gate = gates[0].tensor();
    let mask = |selects: &dyn Fn(usize) -> bool| {
        let mask: Vec<f32> = stops.iter().map(|&stop| f32::from(u8::from(selects(stop)))).collect();
        Ok::<_, Error>(Tensor::from_vec(mask, gate.shape(), gate.device())?)
    };
    // p_n = sigmoid(g_n) before the stop, and there 1 - sum_{m<n} p_m
    let continues: Vec<Tensor> =
        (1..=states.len()).map(|n| mask(&|stop| n < stop)).collect::<Result<_>>()?;
    let is_last: Vec<Tensor> =
        (1..=states.len()).map(|n| mask(&|stop| n == stop)).collect::<Result<_>>()?;
    let inputs: Vec<&Value> = gates.iter().collect();
    let remainder = tape.composed(&inputs, &[], |gates, _| {
        let mut remainder = gate.ones_like()?;
        for (gate, continues) in gates.iter().zip(&continues) {
            remainder = (remainder - (sigmoid(gate)? * continues)?)?;
        }
        Ok(remainder)
    })?;
    let inputs: Vec<&Value> = states.iter().chain(gates).chain([&remainder]).collect();
    let mean = tape.composed(&inputs, &[], |inputs, _| {
        let (states, gates_and_remainder) = inputs.split_at(states.len());
        let mut mean = states[0].zeros_like()?;
        for (n, state) in states.iter().enumerate() {
            let halts = (sigmoid(&gates_and_remainder[n])? * &continues[n])?;
            let p = (halts + (&gates_and_remainder[gates.len()] * &is_last[n])?)?;
            mean = (mean + state.broadcast_mul(&p.to_dtype(state.dtype())?)?)?;
        }
        Ok(mean)
    })?;
    Ok((mean, remainder))
}
