//! Reverse-mode differentiation: the tape, the backward pass, checkpointing, and the parameters.

pub(crate) mod backward;
pub mod checkpoint;
pub mod params;
pub mod tape;

pub use params::{Gradients, Param, Params, Weight, Weights};
pub use tape::{Tape, Value};
