//! How is anything trained?

pub mod objective;

pub use objective::{Loss, Moment, Objective};
