//! Loading of a checkpoint folder in the Hugging Face layout.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::about::of_folder;
use super::adapter::Family;
use super::checkpoint::{Checkpoint, Storage, fingerprint};
use super::config::read_config;
use super::header::Stored;
use super::looped::read_looped;
use super::settings::{Settings, read_json};
use super::shards::stored_tensors;
use super::weights::{Wanted, load_tensors};
use crate::context::Context;
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{LoopedConfig, TransformerConfig};

/// Reads `config.json`, the safetensors and, if there is one, the tokenizer of `folder`.
///
/// # Errors
/// A file is missing or damaged, the parts disagree, or the family does not fit.
pub fn load(folder: &Path, context: &Context) -> Result<Checkpoint> {
    let config_file = folder.join("config.json");
    if !config_file.is_file() {
        return Err(no_config(folder));
    }
    let value = read_json(&config_file)?;
    let mut description = describe(&value).map_err(|error| {
        let hint = "is config.json damaged, or from another kind of model?";
        error.at(config_file.display()).hint(hint)
    })?;
    add_generation_tokens(folder, &mut description.config)?;
    let Description { config, looped, wanted } = description;
    let tokenizer = load_tokenizer(folder, &config)?;
    let about = of_folder(folder, &value).map_err(|error| error.at(config_file.display()))?;
    let stored = stored_tensors(folder)?;
    let storage = storage(&stored)?;
    let (tensors, hashes) = load_tensors(stored, &wanted, &config_file, context)?;
    let fingerprint = fingerprint(&(&config, &looped), &hashes)?;
    let origin = folder.display().to_string();
    Ok(Checkpoint { config, looped, tensors, tokenizer, origin, fingerprint, about, storage })
}

/// Types and file size of the weights.
fn storage(stored: &BTreeMap<String, Stored>) -> Result<Storage> {
    let files: BTreeSet<&Path> = stored.values().map(|stored| stored.path.as_path()).collect();
    let bytes = files.into_iter().map(|path| {
        let metadata = std::fs::metadata(path);
        metadata.map(|found| found.len()).map_err(|error| Error::io("reading", path, &error))
    });
    let file_bytes = bytes.sum::<Result<u64>>()?;
    let types = stored.values().map(|one| (format!("{:?}", one.dtype), one.bytes as u64));
    Ok(Storage::new(types, file_bytes))
}

/// The configuration in `config.json`.
struct Description {
    config: TransformerConfig,
    looped: Option<LoopedConfig>,
    wanted: Vec<Wanted>,
}

fn describe(value: &Value) -> Result<Description> {
    if let Some(looped) = read_looped(value)? {
        let own = looped.tensors().into_iter().map(|(name, shape)| Wanted {
            canonical: name.clone(),
            published: name,
            shape,
        });
        let wanted = own.collect();
        return Ok(Description { config: looped.base.clone(), looped: Some(looped), wanted });
    }
    let (family, config) = read_config(value)?;
    let wanted = published_tensors(family, &config)?;
    Ok(Description { config, looped: None, wanted })
}

fn published_tensors(family: &Family, config: &TransformerConfig) -> Result<Vec<Wanted>> {
    let named = config.tensors().into_iter().map(|(canonical, shape)| {
        let published = family.hf_name(&canonical).ok_or_else(|| {
            Error::internal(format!("family {} has no name for `{canonical}`", family.name))
        })?;
        Ok(Wanted { canonical, published, shape })
    });
    named.collect()
}

/// Chat models name more tokens that end a text in `generation_config.json`.
fn add_generation_tokens(folder: &Path, config: &mut TransformerConfig) -> Result<()> {
    let path = folder.join("generation_config.json");
    if !path.is_file() {
        return Ok(());
    }
    let value = read_json(&path)?;
    let tokens = Settings::new(&value).and_then(|settings| settings.tokens("eos_token_id"));
    for token in tokens.map_err(|error| error.at(path.display()))? {
        if !config.eos_tokens.contains(&token) {
            config.eos_tokens.push(token);
        }
    }
    Ok(())
}

fn load_tokenizer(folder: &Path, config: &TransformerConfig) -> Result<Option<Tokenizer>> {
    let path = folder.join("tokenizer.json");
    if !path.is_file() {
        return Ok(None);
    }
    let tokenizer = Tokenizer::from_file(&path)?;
    // An embedding may have rows to spare, for alignment; a token without a row is an error.
    if tokenizer.vocabulary() > config.vocabulary {
        return Err(Error::input(format!(
            "the tokenizer has ids up to {}, the model's vocabulary is {}",
            tokenizer.vocabulary() - 1,
            config.vocabulary
        ))
        .at(path.display())
        .hint("tokenizer.json and config.json are from different models: fetch both again"));
    }
    Ok(Some(tokenizer))
}

fn no_config(folder: &Path) -> Error {
    let error = Error::input("there is no config.json").at(folder.display());
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let gguf =
        files.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "gguf"));
    if let Some(gguf) = gguf {
        return error.hint(format!("to read the GGUF file, name it: {}", gguf.display()));
    }
    if folder.join("student/config.json").is_file() {
        return error
            .hint(format!("this is a run; its model is {}", folder.join("student").display()));
    }
    error.hint("a model's folder holds config.json and model.safetensors")
}
