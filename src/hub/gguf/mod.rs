//! How does a model that llama.cpp runs become a teacher?

mod blocks;
mod config;
mod cursor;
mod cuts;
mod header;
mod pieces;
mod tokenizer;
mod value;
mod weights;

use std::path::Path;

pub use blocks::BlockType;

use crate::error::{Error, Result};
use crate::hub::checkpoint::Checkpoint;
use crate::hub::mapped;
use crate::observe::Observer;

/// Reads a GGUF file of version 2 or 3.
///
/// # Errors
/// The file is damaged, of another family, quantised in another way, or inconsistent.
pub fn load_gguf(path: &Path, observer: &dyn Observer) -> Result<Checkpoint> {
    let file = mapped::map(path)?;
    let mut checkpoint = read(&file, observer).map_err(|error| error.at(path.display()))?;
    checkpoint.origin = path.display().to_string();
    Ok(checkpoint)
}

fn read(file: &[u8], observer: &dyn Observer) -> Result<Checkpoint> {
    let header = header::Header::read(file)?;
    let family = config::family(&header.metadata)?;
    let mut config = config::read(&header, family)?;
    if let Some(info) = header.tensors.get(config::ROPE_FREQUENCIES) {
        let divisors = weights::numbers(file, config::ROPE_FREQUENCIES, info)?;
        config.rope_scaling = config::llama3(&divisors, &config)?;
    }
    let tokenizer = tokenizer::rebuild(&header.metadata, observer)?;
    if let Some(tokenizer) = &tokenizer
        && tokenizer.vocabulary() > config.vocabulary
    {
        return Err(Error::input(format!(
            "the tokenizer has {} tokens, but the embedding only {} rows",
            tokenizer.vocabulary(),
            config.vocabulary
        )));
    }
    let tensors = weights::load(file, &header, &config, family, observer)?;
    let fingerprint = blake3::hash(file).to_hex().to_string();
    Ok(Checkpoint { config, looped: None, tensors, tokenizer, origin: String::new(), fingerprint })
}
