//! How do published checkpoints come in and go out?

pub mod gguf;
mod mapped;

pub use gguf::{GgufModel, load_gguf};
