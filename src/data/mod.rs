//! What does a model learn from?

pub mod batch;

pub use batch::{Batch, Batches};
