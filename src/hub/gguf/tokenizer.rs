//! How is a tokenizer rebuilt from the metadata of a GGUF file?

use std::collections::HashSet;

use serde_json::json;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;

use super::value::Metadata;
use super::{config, cuts, pieces};
use crate::data::{SpecialTokens, Tokenizer};
use crate::error::{Error, Result};
use crate::observe::Observer;

/// What the vocabulary says of each token.
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

/// The tokenizer of the file; none when it carries none.
///
/// # Errors
/// It is of a kind that is not supported, or inconsistent.
pub(super) fn rebuild(metadata: &Metadata, observer: &dyn Observer) -> Result<Option<Tokenizer>> {
    let model = match metadata.text("tokenizer.ggml.model")? {
        None | Some("no_vocab" | "none") => return Ok(None),
        Some(model) => model,
    };
    let vocabulary = Vocabulary::read(metadata)?;
    let (inner, add_bos) = match model {
        "gpt2" => {
            let pre = cuts::find(metadata, observer)?;
            (byte_level(&vocabulary, metadata, pre)?, pre.add_bos)
        }
        "llama" => (pieces::build(&vocabulary, metadata)?, true),
        other => {
            return Err(Error::input(format!(
                "the tokenizer is of kind `{other}`, expected `gpt2` or `llama`"
            )));
        }
    };
    let add_bos = metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos);
    finish(inner, &vocabulary, metadata, add_bos).map(Some)
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &Metadata<'a>) -> Result<Self> {
        let tokens = metadata.texts("tokenizer.ggml.tokens")?;
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

fn byte_level(
    vocabulary: &Vocabulary,
    metadata: &Metadata,
    pre: &cuts::PreTokenizer,
) -> Result<tokenizers::Tokenizer> {
    let ids = vocabulary.ids();
    let merges = metadata.texts("tokenizer.ggml.merges")?;
    let merges = merges.ok_or_else(|| Error::input("the tokenizer has no list of merges"))?;
    let mut pairs: Merges = Vec::with_capacity(merges.len());
    for (rank, merge) in merges.into_iter().enumerate() {
        let pair = merge.split_once(' ');
        let known = |&(left, right): &(&str, &str)| {
            [left, right, &format!("{left}{right}")].iter().all(|token| ids.contains_key(*token))
        };
        let (left, right) = pair.filter(known).ok_or_else(|| {
            Error::input(format!("merge {rank} of the tokenizer, {merge:?}, makes no token"))
        })?;
        pairs.push((left.to_owned(), right.to_owned()));
    }
    let model = BPE::builder().vocab_and_merges(ids, pairs).ignore_merges(pre.ignore_merges);
    let mut inner = tokenizers::Tokenizer::new(model.build().map_err(unusable)?);
    pre.apply(&mut inner)?;
    inner.with_decoder(Some(ByteLevel::new(false, true, false)));
    Ok(inner)
}

/// An error of the tokenizer library.
pub(super) fn unusable(error: impl std::fmt::Display) -> Error {
    Error::input(format!("the tokenizer of the file cannot be rebuilt: {error}"))
}

/// Adds what every kind of tokenizer has: special tokens, the opening token, the chat template.
fn finish(
    mut inner: tokenizers::Tokenizer,
    vocabulary: &Vocabulary,
    metadata: &Metadata,
    add_bos: bool,
) -> Result<Tokenizer> {
    let added = vocabulary.tokens.iter().zip(&vocabulary.kinds).filter_map(|(token, kind)| {
        let special = match kind {
            Kind::Control | Kind::Unknown => true,
            Kind::UserDefined => false,
            Kind::Normal | Kind::Unused | Kind::Byte => return None,
        };
        Some(AddedToken::from(*token, special).normalized(false))
    });
    inner.add_tokens(added).map_err(unusable)?;
    let bos = metadata.token("tokenizer.ggml.bos_token_id")?;
    let eos = config::end_tokens(metadata)?;
    let size = vocabulary.tokens.len();
    if let Some(id) = bos.iter().chain(&eos).find(|id| **id as usize >= size) {
        return Err(Error::input(format!("token {id} is named, but there are only {size}")));
    }
    let add_bos = add_bos && bos.is_some();
    if let Some((id, token)) = bos.zip(bos.and_then(|id| inner.id_to_token(id))).filter(|_| add_bos)
    {
        inner.with_post_processor(Some(opening(id, &token)?));
    }
    let chat_template = metadata.text("tokenizer.chat_template")?.map(str::to_owned);
    Ok(Tokenizer::from_parts(inner, SpecialTokens { bos, eos, chat_template, add_bos }))
}

/// Puts `token` before every text, for the loaders that ask the tokenizer to do so.
fn opening(id: u32, token: &str) -> Result<TemplateProcessing> {
    let bos = |kind: u32| json!({"SpecialToken": {"id": token, "type_id": kind}});
    let text = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let template = json!({
        "single": [bos(0), text("A", 0)],
        "pair": [bos(0), text("A", 0), bos(1), text("B", 1)],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
    });
    serde_json::from_value(template).map_err(unusable)
}
