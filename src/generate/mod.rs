//! How does a model continue a text?

pub mod config;
pub mod generator;
mod stream;

pub use config::GenerateConfig;
pub use generator::{Continuation, End, Generator};
