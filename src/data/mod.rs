//! What does a model learn from?

pub mod batch;
pub mod bpe;
mod chat;
pub mod special;
pub mod tokenizer;

pub use batch::{Batch, Batches};
pub use special::SpecialTokens;
pub use tokenizer::Tokenizer;
