//! The vocabulary of a GGUF file: its tokens and why each is there.

use std::collections::HashSet;

use tokenizers::models::bpe::Vocab;

use super::value::Metadata;
use crate::error::{Error, Result};

/// The type of each token.
pub(super) struct Vocabulary<'a> {
    /// The text of each token, by id.
    pub(super) tokens: Vec<&'a str>,
    /// The kind of each token, by id.
    pub(super) kinds: Vec<Kind>,
}

/// Why a token is in the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of text.
    Normal,
    /// Stands for what cannot be spelled.
    Unknown,
    /// A mark that no text contains.
    Control,
    /// A text that is never taken apart.
    UserDefined,
    /// Fills the embedding up.
    Unused,
    /// One byte of a character that has no token.
    Byte,
}

impl<'a> Vocabulary<'a> {
    pub(super) fn read(metadata: &Metadata<'a>) -> Result<Self> {
        let tokens = metadata.strings("tokenizer.ggml.tokens")?;
        let tokens = tokens.ok_or_else(|| Error::input("the tokenizer has no list of tokens"))?;
        let kinds = match metadata.numbers("tokenizer.ggml.token_type")? {
            None => vec![Kind::Normal; tokens.len()],
            Some(kinds) => kinds.into_iter().map(Kind::from_number).collect::<Result<Vec<_>>>()?,
        };
        if kinds.len() != tokens.len() {
            return Err(Error::input(format!(
                "the tokenizer has {} tokens, but {} token types",
                tokens.len(),
                kinds.len()
            )));
        }
        let mut seen = HashSet::with_capacity(tokens.len());
        if let Some(twice) = tokens.iter().find(|token| !seen.insert(**token)) {
            return Err(Error::input(format!("the tokenizer has the token {twice:?} twice")));
        }
        Ok(Self { tokens, kinds })
    }

    /// Token by text, as the library wants it; without the tokens that only fill up.
    pub(super) fn ids(&self) -> Vocab {
        let used = self.tokens.iter().zip(&self.kinds).zip(0u32..);
        let used = used.filter(|((_, kind), _)| **kind != Kind::Unused);
        used.map(|((token, _), id)| ((*token).to_owned(), id)).collect()
    }
}

impl Kind {
    fn from_number(number: f64) -> Result<Self> {
        let kinds = [
            Self::Normal,
            Self::Normal,
            Self::Unknown,
            Self::Control,
            Self::UserDefined,
            Self::Unused,
            Self::Byte,
        ];
        let kind = kinds.get(number as usize).filter(|_| number >= 0.0);
        kind.copied()
            .ok_or_else(|| Error::input(format!("there is no token type {number} in GGUF")))
    }
}

/// An error of the tokenizer library.
pub(super) fn unusable(error: impl std::fmt::Display) -> Error {
    Error::input(format!("the tokenizer of the file cannot be rebuilt: {error}"))
}
