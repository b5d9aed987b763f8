//! The token embedding: rows of a table gathered by id.

use candle_core::Tensor;

use crate::autograd::{Tape, Value, Weight};
use crate::error::{Error, Result};
use crate::kernels::host::Host;

/// Refuses ids outside of the vocabulary.
pub(crate) fn check_tokens(tokens: &[u32], vocabulary: usize) -> Result<()> {
    match tokens.iter().find(|&&token| token as usize >= vocabulary) {
        None => Ok(()),
        Some(token) => {
            Err(Error::input(format!("token {token} is past the vocabulary of {vocabulary}"))
                .hint("is the tokenizer the one this model was trained with?"))
        }
    }
}

/// Rows of `weight`, (V, D), gathered by `ids`, (B, T) u32, to (B, T, D).
///
/// # Errors
/// An id is past the vocabulary.
pub fn embedding(tape: &Tape, weight: &Weight, ids: &Tensor) -> Result<Value> {
    let (batch, tokens) = ids.dims2()?;
    let (vocabulary, width) = weight.tensor().dims2()?;
    let flat = ids.flatten_all()?;
    let rows = flat.to_vec1::<u32>()?;
    check_tokens(&rows, vocabulary)?;
    let shape = (batch, tokens, width);
    if !tape.has_cpu_kernel(weight.tensor()) {
        return tape.composed(&[], &[weight], |_, weights| {
            Ok(weights[0].index_select(&flat, 0)?.reshape(shape)?)
        });
    }
    let output = weight.tensor().index_select(&flat, 0)?.reshape(shape)?;
    if !tape.requires_grad(&[], &[weight]) {
        return Ok(Value::constant(output));
    }
    let weight = weight.clone();
    Ok(tape.push(output, move |gradient, backward| {
        let gradient = Host::new(&gradient)?;
        backward.sum_weight(&weight, |sum| {
            for (row, values) in rows.iter().zip(gradient.chunks_exact(width)) {
                let start = *row as usize * width;
                for (sum, value) in sum[start..start + width].iter_mut().zip(values) {
                    *sum += value;
                }
            }
        });
        Ok(())
    }))
}
