//! Gathering the states of some tokens, and scattering them back.

use candle_core::{Shape, Tensor};

use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::host::{self, Host};

/// The tokens of a state, (B, T, D), at `places`: (n, D). Places are indices into the flattened
/// (B, T), each at most once.
///
/// # Errors
/// A place is past the last token.
pub fn gather(tape: &Tape, state: &Value, places: &[usize]) -> Result<Value> {
    let ids = index_tensor(state.tensor(), places)?;
    if !tape.has_cpu_kernel(state.tensor()) {
        return tape.composed(&[state], &[], |inputs, _| gather_rows(&inputs[0], &ids));
    }
    let width = state.tensor().dim(2)?;
    let rows = copy_rows(&Host::new(&state.tensor().contiguous()?)?, width, places);
    let output = host::tensor(rows, (places.len(), width))?;
    if !tape.requires_grad(&[state], &[]) {
        return Ok(Value::constant(output));
    }
    let (slot, shape, places) = (state.slot(), state.tensor().shape().clone(), places.to_vec());
    Ok(tape.push_host(output, move |gradient, backward| {
        let mut all = host::zeros(shape.elem_count());
        scatter_rows(&mut all, &gradient, width, &places);
        backward.add_vec(slot, all, &shape)
    }))
}

/// `base`, (B, T, ..), with its tokens at `places` replaced by `rows`, of any shape with as many
/// elements. Places are indices into the flattened (B, T), each at most once.
///
/// # Errors
/// A place is past the last token, or the size of `rows` does not match `places`.
pub fn scatter(tape: &Tape, base: &Value, rows: &Value, places: &[usize]) -> Result<Value> {
    let shape = base.tensor().shape().clone();
    let tokens = shape.dims().iter().take(2).product::<usize>();
    let width = shape.elem_count() / tokens.max(1);
    let past = places.iter().any(|&place| place >= tokens);
    if past || rows.tensor().elem_count() != places.len() * width {
        return Err(Error::internal(format!(
            "a scatter of {:?} to {} tokens of {shape:?}",
            rows.tensor().shape(),
            places.len()
        )));
    }
    if !tape.has_cpu_kernel(base.tensor()) {
        return composed_scatter(tape, base, rows, places, &shape);
    }
    let mut all = host::copy(&Host::new(&base.tensor().contiguous()?)?);
    scatter_rows(&mut all, &Host::new(&rows.tensor().contiguous()?)?, width, places);
    let output = host::tensor(all, &shape)?;
    if !tape.requires_grad(&[base, rows], &[]) {
        return Ok(Value::constant(output));
    }
    let (base_slot, rows_slot, places) = (base.slot(), rows.slot(), places.to_vec());
    let rows_shape = rows.tensor().shape().clone();
    Ok(tape.push_host(output, move |mut gradient, backward| {
        backward.add_vec(rows_slot, copy_rows(&gradient, width, &places), &rows_shape)?;
        for place in places {
            gradient[place * width..(place + 1) * width].fill(0.0);
        }
        backward.add_vec(base_slot, gradient, &shape)
    }))
}

/// Index-selects every token from the base followed by the rows.
fn composed_scatter(
    tape: &Tape,
    base: &Value,
    rows: &Value,
    places: &[usize],
    shape: &Shape,
) -> Result<Value> {
    let tokens = shape.dims().iter().take(2).product::<usize>();
    let mut ids: Vec<u32> = (0..tokens as u32).collect();
    for (row, &place) in places.iter().enumerate() {
        ids[place] = (tokens + row) as u32;
    }
    let ids = Tensor::from_vec(ids, tokens, base.tensor().device())?;
    tape.composed(&[base, rows], &[], |inputs, _| {
        let flat = |x: &Tensor, rows: usize| x.reshape((rows, ()));
        let both = [flat(&inputs[0], tokens)?, flat(&inputs[1], places.len())?];
        Ok(Tensor::cat(&both, 0)?.index_select(&ids, 0)?.reshape(shape)?)
    })
}

/// As [`gather`], on a tensor: (B, T, D) to (n, D).
///
/// # Errors
/// A place is past the last token.
pub fn gather_tensor(state: &Tensor, places: &[usize]) -> Result<Tensor> {
    gather_rows(state, &index_tensor(state, places)?)
}

fn gather_rows(state: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (_, _, width) = state.dims3()?;
    Ok(state.reshape(((), width))?.index_select(ids, 0)?)
}

fn copy_rows(all: &[f32], width: usize, places: &[usize]) -> Vec<f32> {
    let mut rows = Vec::with_capacity(places.len() * width);
    for &place in places {
        rows.extend_from_slice(&all[place * width..(place + 1) * width]);
    }
    rows
}

fn scatter_rows(all: &mut [f32], rows: &[f32], width: usize, places: &[usize]) {
    for (row, &place) in rows.chunks_exact(width).zip(places) {
        all[place * width..(place + 1) * width].copy_from_slice(row);
    }
}

fn index_tensor(state: &Tensor, places: &[usize]) -> Result<Tensor> {
    let (batch, tokens, _) = state.dims3()?;
    if let Some(place) = places.iter().find(|&&place| place >= batch * tokens) {
        return Err(Error::internal(format!("a gather of token {place} of {batch} x {tokens}")));
    }
    let ids: Vec<u32> = places.iter().map(|&place| place as u32).collect();
    Ok(Tensor::from_vec(ids, places.len(), state.device())?)
}
