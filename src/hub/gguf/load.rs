//! A GGUF file from its first byte to a checkpoint.

use std::path::Path;

use super::{config, header, tokenizer, weights};
use crate::context::Context;
use crate::disk::map;
use crate::error::{Error, Result};
use crate::hub::about::About;
use crate::hub::checkpoint::{Checkpoint, Storage, fingerprint};

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
    let types = header.tensors.values().map(|info| {
        let bytes = info.bytes.len() as u64;
        (format!("{:?}", info.blocks), bytes)
    });
    Ok(Checkpoint {
        config,
        looped: None,
        tensors,
        tokenizer,
        origin: String::new(),
        fingerprint,
        about: about(&header)?,
        storage: Storage::new(types, file.len() as u64),
    })
}

/// What the metadata says of the model beside its shape.
fn about(header: &header::Header) -> Result<About> {
    let license = header.metadata.text("general.license")?.map(str::to_owned);
    let languages = header.metadata.strings("general.languages")?.unwrap_or_default();
    let languages = languages.into_iter().map(str::to_owned).collect();
    Ok(About { license, languages, ..About::default() })
}
