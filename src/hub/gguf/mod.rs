//! Loading of GGUF files.

mod blocks;
mod config;
mod cursor;
mod cuts;
mod header;
mod load;
mod pieces;
mod tokenizer;
mod value;
mod vocabulary;
mod weights;

pub use blocks::BlockType;
pub use load::load_gguf;
