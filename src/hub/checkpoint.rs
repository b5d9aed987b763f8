//! A checkpoint in memory: configuration, tensors, tokenizer and fingerprint.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::about::About;
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{LoopedConfig, TransformerConfig};

/// A published model in memory.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The decoder; for a looped model, the teacher's.
    pub config: TransformerConfig,
    /// How it is factored, when it is one of our students.
    pub looped: Option<LoopedConfig>,
    /// Every tensor by its canonical name, f32 on the CPU.
    pub tensors: BTreeMap<String, Tensor>,
    /// The tokenizer, when the checkpoint has one.
    pub tokenizer: Option<Tokenizer>,
    /// What the user called it.
    pub origin: String,
    /// blake3 of the configuration and of every tensor's name and bytes.
    pub fingerprint: String,
    /// Licence, languages, teacher, and the windows it was trained on, as far as it says.
    pub about: About,
    /// How its weights are stored.
    pub storage: Storage,
}

/// How the weights of a checkpoint are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Types of the numbers, the one with the most bytes first: `F32`, `BF16`, `Q4_K`.
    pub types: Vec<String>,
    /// Bytes of the files that hold them.
    pub file_bytes: u64,
}

impl Storage {
    /// Of tensors, each with the name of its type and its bytes, in files of `file_bytes`.
    pub(super) fn new(tensors: impl Iterator<Item = (String, u64)>, file_bytes: u64) -> Self {
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        tensors.for_each(|(kind, count)| *bytes.entry(kind).or_default() += count);
        let mut types: Vec<(String, u64)> = bytes.into_iter().collect();
        types.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Self { types: types.into_iter().map(|(kind, _)| kind).collect(), file_bytes }
    }
}

impl Checkpoint {
    /// The tokenizer.
    ///
    /// # Errors
    /// It came without one, or with one of another vocabulary.
    pub fn own_tokenizer(&self) -> Result<&Tokenizer> {
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| {
            Error::input("this model came without a tokenizer")
                .at(&self.origin)
                .hint("put the tokenizer.json it was published with beside its config.json")
        })?;
        let (ids, rows) = (tokenizer.vocabulary(), self.config.vocabulary);
        if ids > rows {
            return Err(Error::input(format!(
                "the tokenizer has ids up to {}, the embedding {rows} rows",
                ids - 1
            ))
            .at(&self.origin)
            .hint("the tokenizer belongs to another model"));
        }
        Ok(tokenizer)
    }
}

/// One hash of the configuration and the hashes of the tensors' stored bytes, in order of name:
/// the same model in one file or in ten has one fingerprint.
///
/// # Errors
/// The configuration cannot be written as JSON.
pub fn fingerprint(
    config: &impl serde::Serialize,
    tensors: &BTreeMap<String, blake3::Hash>,
) -> Result<String> {
    let config = serde_json::to_vec(config)
        .map_err(|error| Error::internal(format!("writing a configuration: {error}")))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&config);
    for (name, hash) in tensors {
        hasher.update(name.as_bytes());
        hasher.update(hash.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The tensors by canonical name and the hashes of their stored bytes.
pub type Loaded = (BTreeMap<String, Tensor>, BTreeMap<String, blake3::Hash>);
