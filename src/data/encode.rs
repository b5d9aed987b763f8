//! The trait through which a corpus uses a tokenizer.

use crate::error::Result;

/// Text to tokens, the same tokens for the same text, from any thread.
pub trait Encode: Send + Sync {
    /// The tokens of a text, without special tokens around it.
    ///
    /// # Errors
    /// The text has no tokens in this vocabulary.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;
    /// Equal for two tokenizers only if they give the same tokens.
    fn fingerprint(&self) -> String;
    /// V; every token is below it.
    fn vocabulary(&self) -> usize;
    /// The end-of-text token.
    fn document_end(&self) -> Option<u32>;
}

impl Encode for super::tokenizer::Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(text)
    }

    fn fingerprint(&self) -> String {
        self.fingerprint()
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary()
    }

    fn document_end(&self) -> Option<u32> {
        self.special().eos.first().copied()
    }
}
