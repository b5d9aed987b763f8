//! Which tokens are read out, when not all are?

use candle_core::Tensor;

use super::tape::{Tape, Value};
use crate::error::{Error, Result};

/// The tokens at `places`, counted through (B, T) row by row, of a state (B, T, D): (n, D).
///
/// # Errors
/// A place is past the last token.
pub fn pick(tape: &Tape, state: &Value, places: &[usize]) -> Result<Value> {
    let ids = ids_of(state.tensor(), places)?;
    tape.composed(&[state], &[], |inputs, _| pick_rows(&inputs[0], &ids))
}

/// The same of a tensor.
///
/// # Errors
/// A place is past the last token.
pub fn pick_tensor(state: &Tensor, places: &[usize]) -> Result<Tensor> {
    pick_rows(state, &ids_of(state, places)?)
}

fn pick_rows(state: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (_, _, width) = state.dims3()?;
    Ok(state.reshape(((), width))?.index_select(ids, 0)?)
}

fn ids_of(state: &Tensor, places: &[usize]) -> Result<Tensor> {
    let (batch, tokens, _) = state.dims3()?;
    if let Some(place) = places.iter().find(|&&place| place >= batch * tokens) {
        return Err(Error::internal(format!("token {place} of {batch} x {tokens} is read out")));
    }
    let ids: Vec<u32> = places.iter().map(|&place| place as u32).collect();
    Ok(Tensor::from_vec(ids, places.len(), state.device())?)
}
