//! What is a model made of?

pub mod params;

pub use params::{Param, Params, Placement};
