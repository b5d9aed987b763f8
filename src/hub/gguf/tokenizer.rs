//! Reconstruction of a tokenizer from GGUF metadata.

use serde_json::json;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;

use super::value::Metadata;
use super::vocabulary::{Kind, Vocabulary, unusable};
use super::{config, cuts, pieces};
use crate::context::Context;
use crate::data::{SpecialTokens, Tokenizer};
use crate::error::{Error, Result};

/// The tokenizer of the file; none when it carries none.
///
/// # Errors
/// It is of a kind that is not supported, or inconsistent.
pub(super) fn rebuild(metadata: &Metadata, context: &Context) -> Result<Option<Tokenizer>> {
    let model = match metadata.text("tokenizer.ggml.model")? {
        None | Some("no_vocab" | "none") => return Ok(None),
        Some(model) => model,
    };
    let vocabulary = Vocabulary::read(metadata)?;
    let (inner, add_bos) = match model {
        "gpt2" => {
            let pre = cuts::find(metadata, context)?;
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

fn byte_level(
    vocabulary: &Vocabulary,
    metadata: &Metadata,
    pre: &cuts::PreTokenizer,
) -> Result<tokenizers::Tokenizer> {
    let ids = vocabulary.ids();
    let merges = metadata.strings("tokenizer.ggml.merges")?;
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
    let pad = metadata.token("tokenizer.ggml.padding_token_id")?.filter(|id| (*id as usize) < size);
    if let Some(id) = bos.iter().chain(&eos).find(|id| **id as usize >= size) {
        return Err(Error::input(format!("token {id} is named, but there are only {size}")));
    }
    let add_bos = add_bos && bos.is_some();
    if let Some((id, token)) = bos.zip(bos.and_then(|id| inner.id_to_token(id))).filter(|_| add_bos)
    {
        inner.with_post_processor(Some(opening(id, &token)?));
    }
    let chat_template = metadata.text("tokenizer.chat_template")?.map(str::to_owned);
    Ok(Tokenizer::from_parts(inner, SpecialTokens { bos, eos, pad, chat_template, add_bos }))
}

/// Puts `token` before every text, for loaders that leave it to the tokenizer.
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
