//! Text and tasks as batches of tokens.

pub mod batch;
mod bpe;
mod cache;
mod chat;
mod columns;
pub mod config;
pub mod corpus;
pub mod documents;
pub mod encode;
mod files;
mod mapped;
mod permutation;
pub mod read;
mod special;
pub mod tasks;
mod tokenise;
pub mod tokenizer;
mod utf8;
pub mod windows;

pub use batch::{Batch, Batches, IGNORED, SupervisedTokens};
pub use config::{DataConfig, Split, SplitBy, SplitConfig};
pub use corpus::Corpus;
pub use documents::Documents;
pub use encode::Encode;
pub use read::{Document, read_documents};
pub use special::SpecialTokens;
pub use tokenizer::Tokenizer;
pub use windows::{EvaluationWindow, PackedWindows, Spread};
