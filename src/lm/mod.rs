//! How is a teacher made from text alone?

pub mod config;
pub mod init;
pub mod objective;

pub use config::{ModelConfig, TokenizerConfig};
pub use init::initial_tensors;
pub use objective::LanguageModeling;
