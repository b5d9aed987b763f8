//! Which tokens go on, or are read out, when not all are?

use candle_core::{Shape, Tensor};

use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::host::{self, Host};

/// The tokens at `places`, each at most once, counted through (B, T) row by row, of a state
/// (B, T, D): (n, D).
///
/// # Errors
/// A place is past the last token.
pub fn gather(tape: &Tape, state: &Value, places: &[usize]) -> Result<Value> {
    let ids = ids_of(state.tensor(), places)?;
    if !tape.has_cpu_kernel(state.tensor()) {
        return tape.composed(&[state], &[], |inputs, _| gather_rows(&inputs[0], &ids));
    }
    let width = state.tensor().dim(2)?;
    let picked = rows_at(&Host::new(&state.tensor().contiguous()?)?, width, places);
    let output = host::tensor(picked, (places.len(), width))?;
    if !tape.requires_grad(&[state], &[]) {
        return Ok(Value::constant(output));
    }
    let (slot, shape, places) = (state.slot(), state.tensor().shape().clone(), places.to_vec());
    Ok(tape.push_host(output, move |gradient, backward| {
        let mut all = host::zeros(shape.elem_count());
        scatter_rows(&mut all, &gradient, width, &places);
        backward.add_own(slot, all, &shape)
    }))
}

/// `base`, (B, T, ..), with `rows` instead of its tokens at `places`, each at most once, counted
/// through (B, T) row by row: as many numbers for each, in any shape.
///
/// # Errors
/// A place is past the last token, or there are more or fewer rows than places.
pub fn scatter(tape: &Tape, base: &Value, rows: &Value, places: &[usize]) -> Result<Value> {
    let shape = base.tensor().shape().clone();
    let tokens = shape.dims().iter().take(2).product::<usize>();
    let width = shape.elem_count() / tokens.max(1);
    let past = places.iter().any(|&place| place >= tokens);
    if past || rows.tensor().elem_count() != places.len() * width {
        return Err(Error::internal(format!(
            "{:?} is put at {} places of {shape:?}",
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
    let (of_base, of_rows, places) = (base.slot(), rows.slot(), places.to_vec());
    let rows_shape = rows.tensor().shape().clone();
    Ok(tape.push_host(output, move |mut gradient, backward| {
        backward.add_own(of_rows, rows_at(&gradient, width, &places), &rows_shape)?;
        for place in places {
            gradient[place * width..(place + 1) * width].fill(0.0);
        }
        backward.add_own(of_base, gradient, &shape)
    }))
}

/// Every token takes its row of the base, or one of those after it.
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

/// The same as [`pick`] of a tensor.
///
/// # Errors
/// A place is past the last token.
pub fn gather_tensor(state: &Tensor, places: &[usize]) -> Result<Tensor> {
    gather_rows(state, &ids_of(state, places)?)
}

fn gather_rows(state: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (_, _, width) = state.dims3()?;
    Ok(state.reshape(((), width))?.index_select(ids, 0)?)
}

fn rows_at(all: &[f32], width: usize, places: &[usize]) -> Vec<f32> {
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

fn ids_of(state: &Tensor, places: &[usize]) -> Result<Tensor> {
    let (batch, tokens, _) = state.dims3()?;
    if let Some(place) = places.iter().find(|&&place| place >= batch * tokens) {
        return Err(Error::internal(format!("token {place} of {batch} x {tokens} is read out")));
    }
    let ids: Vec<u32> = places.iter().map(|&place| place as u32).collect();
    Ok(Tensor::from_vec(ids, places.len(), state.device())?)
}
