//! Text to token ids, and token ids to text.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::data::chat;
use crate::data::special::{self, SpecialTokens};
use crate::error::{Error, Result};

/// A tokenizer, the tokens that open and close a text, and the chat template.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
    vocabulary: usize,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tokenizer");
        shown.field("vocabulary", &self.vocabulary).field("special", &self.special);
        shown.finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, from the files beside it, the special tokens and the template.
    ///
    /// # Errors
    /// A file is missing, is not JSON, or describes no tokenizer.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io("reading", path, &error))?;
        let damaged = |detail: String| {
            Error::input(format!("this is not a usable tokenizer: {detail}"))
                .at(path.display())
                .hint("fetch tokenizer.json again; is the file complete?")
        };
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        check_merges(&json).map_err(damaged)?;
        let inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| damaged(e.to_string()))?;
        let special = special::beside(path, &inner)?;
        Ok(Self::from_parts(inner, special))
    }

    /// Wraps a tokenizer that was built elsewhere.
    #[must_use]
    pub fn from_parts(mut inner: tokenizers::Tokenizer, special: SpecialTokens) -> Self {
        // A published tokenizer.json may carry the lengths of its last training run.
        let _ = inner.with_truncation(None);
        inner.with_padding(None);
        let vocabulary = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Self { inner, special, vocabulary }
    }

    /// The ids of `text`. Nothing is added before or after it; special tokens written in the text
    /// are recognised.
    ///
    /// # Errors
    /// A character that the vocabulary cannot spell.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|e| Error::input(format!("cannot tokenise: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens included. Bytes that are not yet a complete character come
    /// out as U+FFFD: a stream waits for the next token while the text ends in one.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(|e| Error::input(format!("cannot decode: {e}")))
    }

    /// The highest id plus one: the least number of rows the embedding must have.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The tokens that open and close a text, and the chat template.
    #[must_use]
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The piece of text behind `id`, as the vocabulary spells it.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a piece as the vocabulary spells it.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// blake3 of the tokenizer as JSON, without the special tokens and the template.
    ///
    /// # Panics
    /// Never: what was read from JSON can be written as JSON.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let json = self.inner.to_string(false).expect("a tokenizer in memory is always JSON");
        blake3::hash(json.as_bytes()).to_hex().to_string()
    }

    /// The content of `tokenizer.json`.
    ///
    /// # Errors
    /// The tokenizer cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|e| Error::internal(format!("tokenizer.json: {e}")))
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json`, which stock loaders open.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| Error::io("writing", &path, &error))
        };
        write("tokenizer.json", self.to_json()?)?;
        let config = special::to_config(&self.special, &self.inner);
        write("tokenizer_config.json", format!("{config:#}\n"))
    }

    /// The conversation as the model was taught to read it, up to where its answer starts; a
    /// message is (role, content).
    ///
    /// # Errors
    /// There is no template, or it fails on these messages.
    pub fn chat_prompt(&self, messages: &[(String, String)]) -> Result<String> {
        let template = self.special.chat_template.as_deref().ok_or_else(|| {
            Error::input("this tokenizer has no chat template")
                .hint("give the prompt as plain text, or use an instruction-tuned model")
        })?;
        let token = |id: Option<u32>| id.and_then(|id| self.token(id)).unwrap_or_default();
        let (bos, eos) = (token(self.special.bos), token(self.special.eos.first().copied()));
        chat::render(template, messages, &bos, &eos)
    }
}

/// Every merge must give a token: the library indexes out of bounds where one does not.
fn check_merges(json: &Value) -> std::result::Result<(), String> {
    let model = &json["model"];
    let (Some(merges), Some(vocabulary)) = (model["merges"].as_array(), model["vocab"].as_object())
    else {
        return Ok(());
    };
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    for (rank, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            other => other[0].as_str().zip(other[1].as_str()),
        };
        let merged = pair.and_then(|(a, b)| Some(format!("{a}{}", b.strip_prefix(prefix)?)));
        if !merged.is_some_and(|token| vocabulary.contains_key(&token)) {
            return Err(format!("merge {rank}, {merge}, makes no token of its vocabulary"));
        }
    }
    Ok(())
}
