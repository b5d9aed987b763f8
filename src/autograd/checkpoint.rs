//! Activation checkpointing for a chain of applications of a block.
//!
//! Only the inputs of checkpointed pieces are stored; their activations are recomputed in the
//! backward pass. Gradients are exact. Chen et al. 2016.

use std::ops::Range;
use std::rc::Rc;

use super::tape::{Tape, Value};
use crate::error::Result;

/// Longest chain that stores the input of every link. A longer one is split into about sqrt(n)
/// pieces, which store their input and are split into links when the backward pass reaches them.
pub const MAX_STORED_LINKS: usize = 16;

/// One link of a chain: computes the next state from the tape, its index, the state, and the inputs
/// that all links share.
pub type Link = Rc<dyn Fn(&Tape, usize, &Value, &[Value]) -> Result<Value>>;

/// Applies `link` for every index in `links`, in order, storing about 2 sqrt(n) states of the whole
/// chain and the graph of one link at a time. All links read the `shared` inputs, whose gradients
/// are summed over the links.
///
/// `link` runs once on a tape that records nothing, once more in chains of over 16 links, and once
/// on a recording tape in the backward pass, last link first. Terms of the loss must be added to
/// the recording tape alone.
///
/// # Errors
/// A link fails, here or in the backward pass.
pub fn recompute_chain(
    tape: &Tape,
    state: &Value,
    shared: &[Value],
    links: Range<usize>,
    link: &Link,
) -> Result<Value> {
    let count = links.len();
    if count <= MAX_STORED_LINKS {
        return checkpoint_links(tape, state, shared, links, link);
    }
    let piece = (count as f64).sqrt().ceil() as usize;
    let mut state = state.clone();
    for start in links.clone().step_by(piece) {
        let (link, piece) = (link.clone(), start..(start + piece).min(links.end));
        state = tape.recompute(&inputs(&state, shared), move |tape, inputs| {
            checkpoint_links(tape, &inputs[0], &inputs[1..], piece.clone(), &link)
        })?;
    }
    Ok(state)
}

fn checkpoint_links(
    tape: &Tape,
    state: &Value,
    shared: &[Value],
    links: Range<usize>,
    link: &Link,
) -> Result<Value> {
    let mut state = state.clone();
    for index in links {
        let link = link.clone();
        state = tape.recompute(&inputs(&state, shared), move |tape, inputs| {
            link(tape, index, &inputs[0], &inputs[1..])
        })?;
    }
    Ok(state)
}

fn inputs<'a>(state: &'a Value, shared: &'a [Value]) -> Vec<&'a Value> {
    std::iter::once(state).chain(shared).collect()
}
