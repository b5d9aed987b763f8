//! How does a graph stay small when a block is applied again and again?
//!
//! What a block computes on its way is thrown away and computed anew when its gradient is asked
//! for; only what went into it is kept. Gradients are exact. Chen et al. 2016.

use std::ops::Range;
use std::rc::Rc;

use super::tape::{Tape, Value};
use crate::error::Result;

/// A chain no longer than this keeps the input of every link; a longer one is cut into about
/// sqrt(n) pieces, each kept by its input alone and cut into links when its turn comes.
pub const KEPT: usize = 16;

/// One link of a chain: on which tape, the how manyth, from what state, beside what all links read.
pub type Link = Rc<dyn Fn(&Tape, usize, &Value, &[Value]) -> Result<Value>>;

/// Applies `link` for every number of `links` in order, keeping about 2 sqrt(n) states of the
/// whole chain and the graph of one link at a time. All links read what stands `beside`; gradients
/// that come to it from each are summed.
///
/// `link` runs once on a tape that records nothing, once more for chains of over 16 links, and
/// once on one that records, last link first: what adds to the loss does so only there.
///
/// # Errors
/// A link fails; on the way back, the backward pass does.
pub fn recompute_chain(
    tape: &Tape,
    state: &Value,
    beside: &[Value],
    links: Range<usize>,
    link: &Link,
) -> Result<Value> {
    let count = links.len();
    if count <= KEPT {
        return one_by_one(tape, state, beside, links, link);
    }
    let piece = (count as f64).sqrt().ceil() as usize;
    let mut state = state.clone();
    for start in links.clone().step_by(piece) {
        let (link, piece) = (link.clone(), start..(start + piece).min(links.end));
        state = tape.recompute(&inputs(&state, beside), move |tape, inputs| {
            one_by_one(tape, &inputs[0], &inputs[1..], piece.clone(), &link)
        })?;
    }
    Ok(state)
}

fn one_by_one(
    tape: &Tape,
    state: &Value,
    beside: &[Value],
    links: Range<usize>,
    link: &Link,
) -> Result<Value> {
    let mut state = state.clone();
    for number in links {
        let link = link.clone();
        state = tape.recompute(&inputs(&state, beside), move |tape, inputs| {
            link(tape, number, &inputs[0], &inputs[1..])
        })?;
    }
    Ok(state)
}

fn inputs<'a>(state: &'a Value, beside: &'a [Value]) -> Vec<&'a Value> {
    std::iter::once(state).chain(beside).collect()
}
