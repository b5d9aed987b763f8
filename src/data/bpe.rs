//! Training of a byte-level BPE tokenizer on a corpus.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

use crate::data::special::SpecialTokens;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// Separates documents, and opens and closes a text.
pub(super) const END_OF_TEXT: &str = "<|endoftext|>";

/// Every byte and the separator have a token.
const SMALLEST_VOCABULARY: usize = 257;

/// Fewest occurrences of a pair that becomes a token.
const LEAST_COUNT: u64 = 2;

impl Tokenizer {
    /// Trains a byte-level BPE of at most `vocabulary` tokens, `<|endoftext|>` included: the same
    /// documents in the same order give the same tokenizer.
    ///
    /// # Errors
    /// There is no text, or the vocabulary has no room for the 256 bytes.
    pub fn train_bpe(texts: impl Iterator<Item = String>, vocabulary: usize) -> Result<Self> {
        train(texts, vocabulary)
    }
}

fn train(texts: impl Iterator<Item = String>, vocabulary: usize) -> Result<Tokenizer> {
    if !(SMALLEST_VOCABULARY..=1 << 24).contains(&vocabulary) {
        return Err(Error::input(format!(
            "a byte-level vocabulary of {vocabulary} tokens: expected {SMALLEST_VOCABULARY} (every \
             byte and {END_OF_TEXT}) to {}",
            1 << 24
        )));
    }
    let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        return Err(Error::input("there is no text to train a tokenizer on"));
    }
    let failed =
        |error: tokenizers::Error| Error::internal(format!("training a tokenizer: {error}"));
    let bytes = ByteLevel::new(false, false, true);
    let mut trained = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()
        .map_err(failed)?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .min_frequency(LEAST_COUNT)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .build();
    trained.train(&mut trainer, texts.into_iter()).map_err(failed)?;
    let json = trained.to_string(false).map_err(failed)?;
    let inner = tokenizers::Tokenizer::from_bytes(&json).map_err(failed)?;
    let end = inner.token_to_id(END_OF_TEXT).expect("the trainer adds its special tokens first");
    let special = SpecialTokens {
        bos: Some(end),
        eos: vec![end],
        pad: Some(end),
        ..SpecialTokens::default()
    };
    Ok(Tokenizer::from_parts(inner, special))
}
