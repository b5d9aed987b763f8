//! Reverse-mode differentiation: the tape, the backward pass, checkpointing, and the parameters.

pub(crate) mod backward;
mod checkpoint;
mod params;
mod tape;

pub use checkpoint::{Link, MAX_STORED_LINKS, recompute_chain};
pub use params::{Gradients, Param, Params, Weight, Weights};
pub use tape::{Tape, Value};
