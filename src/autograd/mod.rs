//! The tape that records a computation, its way back, and the parameters that gradients are of.

pub(crate) mod backward;
pub mod checkpoint;
pub mod params;
pub mod tape;

pub use params::{Gradients, Param, Params, Placement, Weight, Weights};
pub use tape::{Tape, Value};
