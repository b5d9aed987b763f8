//! Generation: a model continues a prompt, token by token.

pub mod config;
pub mod generator;
pub mod reader;
pub mod sampling;
mod stream;

pub use config::GenerateConfig;
pub use generator::{Continuation, End, Generator};
pub use reader::{ReadConfig, Speculation, Stopping};
pub use sampling::Candidates;
