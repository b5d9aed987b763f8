//! Pretraining: language models and task models trained from scratch.

mod config;
mod init;
mod objective;

pub use config::{ModelConfig, Supervision, TokenizerConfig};
pub use init::{initial_looped_tensors, initial_tensors};
pub use objective::LanguageModeling;
