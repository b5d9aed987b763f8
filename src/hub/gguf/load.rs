//! A GGUF file from its first byte to a checkpoint.

use std::path::Path;

use super::{config, header, tokenizer, weights};
use crate::context::Context;
use crate::disk::map;
use crate::error::{Error, Result};
use crate::hub::checkpoint::{Checkpoint, fingerprint};

/// Reads a GGUF file of version 2 or 3.
///
/// # Errors
/// The file is damaged, of another family, quantised in another way, or inconsistent.
pub fn load_gguf(path: &Path, context: &Context) -> Result<Checkpoint> {
    let file = map(path)?;
    let checkpoint = read(&file, context).map_err(|error| error.at(path.display()))?;
    Ok(Checkpoint { origin: path.display().to_string(), ..checkpoint })
}

fn read(file: &[u8], context: &Context) -> Result<Checkpoint> {
    let header = header::Header::read(file)?;
    let family = config::family(&header.metadata)?;
    let mut config = config::read(&header, family)?;
    if let Some(info) = header.tensors.get(config::ROPE_FREQUENCIES) {
        let divisors = weights::numbers(file, config::ROPE_FREQUENCIES, info)?;
        config.rope_scaling = config::llama3(&divisors, &config)?;
    }
    let tokenizer = tokenizer::rebuild(&header.metadata, context)?;
    if let Some(tokenizer) = &tokenizer
        && tokenizer.vocabulary() > config.vocabulary
    {
        return Err(Error::input(format!(
            "the tokenizer has {} tokens, but the embedding only {} rows",
            tokenizer.vocabulary(),
            config.vocabulary
        )));
    }
    let (tensors, hashes) = weights::load(file, &header, &config, family, context)?;
    let fingerprint = fingerprint(&config, &hashes)?;
    let origin = String::new();
    Ok(Checkpoint { config, looped: None, tensors, tokenizer, origin, fingerprint })
}
