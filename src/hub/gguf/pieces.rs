//! Conversion of a `SentencePiece` vocabulary with scores into BPE merges.

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Merges, Vocab};

use super::value::Metadata;
use super::vocabulary::{Kind, Vocabulary, unusable};
use crate::error::{Error, Result};

/// Longer pieces would take too long to cut in all ways; published ones stay under 100 bytes.
const LONGEST_PIECE: usize = 1024;

/// A tokenizer that spells with pieces where it can and with bytes where it must.
///
/// # Errors
/// The scores or the bytes are missing.
pub(super) fn build(vocabulary: &Vocabulary, metadata: &Metadata) -> Result<tokenizers::Tokenizer> {
    let ids = vocabulary.ids();
    let scores = metadata.numbers("tokenizer.ggml.scores")?.unwrap_or_default();
    if scores.len() != vocabulary.tokens.len() {
        return Err(Error::input(format!(
            "the tokenizer has {} tokens, but {} scores",
            vocabulary.tokens.len(),
            scores.len()
        )));
    }
    let merges = merges(vocabulary, &ids, &scores)?;
    let unknown = metadata.token("tokenizer.ggml.unknown_token_id")?.unwrap_or(0);
    let unknown = vocabulary.tokens.get(unknown as usize).copied().unwrap_or_default();
    let model = BPE::builder()
        .vocab_and_merges(ids, merges)
        .unk_token(unknown.to_owned())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(unusable)?;
    let prefix = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut inner = tokenizers::Tokenizer::new(model);
    let (normalizer, decoder) = spaces(prefix);
    let normalizer: tokenizers::NormalizerWrapper =
        serde_json::from_value(normalizer).map_err(unusable)?;
    let decoder: tokenizers::DecoderWrapper = serde_json::from_value(decoder).map_err(unusable)?;
    inner.with_normalizer(Some(normalizer)).map_err(unusable)?;
    inner.with_decoder(Some(decoder));
    Ok(inner)
}

/// How spaces become part of words and come back, as in the tokenizer.json of Llama 2.
fn spaces(prefix: bool) -> (Value, Value) {
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let mut normalizers = vec![replace(" ", "▁")];
    let mut decoders =
        vec![replace("▁", " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    (
        json!({"type": "Sequence", "normalizers": normalizers}),
        json!({"type": "Sequence", "decoders": decoders}),
    )
}

/// A merge for every cut of a piece into two pieces, the best score first, then the longest parts:
/// the order of `SentencePieceExtractor` in transformers.
fn merges(vocabulary: &Vocabulary, ids: &Vocab, scores: &[f64]) -> Result<Merges> {
    let mut found = Vec::new();
    for ((piece, kind), score) in vocabulary.tokens.iter().zip(&vocabulary.kinds).zip(scores) {
        if *kind != Kind::Normal {
            continue;
        }
        if piece.len() > LONGEST_PIECE {
            return Err(Error::input(format!(
                "the tokenizer has a piece of {} bytes",
                piece.len()
            )));
        }
        let mut cuts: Vec<_> = piece
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = piece.split_at(at);
                Some(((*ids.get(left)?, *ids.get(right)?), left, right))
            })
            .collect();
        cuts.sort_unstable_by_key(|(pair, ..)| *pair);
        let length = |text: &str| text.chars().count();
        found.extend(cuts.into_iter().map(|(_, a, b)| (*score, length(a), length(b), a, b)));
    }
    // Stable: equals stay in the order of the vocabulary.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    Ok(found.into_iter().map(|(.., left, right)| (left.to_owned(), right.to_owned())).collect())
}
