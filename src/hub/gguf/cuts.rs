//! Pre-tokenizers of GGUF files: the patterns that cut text before the merges.

use tokenizers::SplitDelimiterBehavior;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

use super::value::Metadata;
use super::vocabulary::unusable;
use crate::context::Context;
use crate::error::{Error, Result};

/// A way to cut text before the merges.
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    cuts: &'static [Cut],
    /// A word that is a token is that token, whatever the merges.
    pub(super) ignore_merges: bool,
    /// Texts are opened when the metadata has no flag for it.
    pub(super) add_bos: bool,
    /// Characters are composed first (NFC), as the published tokenizer.json does.
    compose: bool,
}

enum Cut {
    Digits,
    Regex(&'static str),
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// llama-vocab.cpp, `llama_vocab::impl::load` for the names and `llm_tokenizer_bpe` for the cuts.
const PRE_TOKENIZERS: [PreTokenizer; 6] = [
    PreTokenizer {
        names: &["default"],
        cuts: &[
            Cut::Regex(r"[\p{P}\$\+<=>\^~\|]+"),
            Cut::Regex(GPT2),
            Cut::Regex(r"\p{N}+"),
            Cut::Regex("[0-9][0-9][0-9]"),
        ],
        ignore_merges: false,
        add_bos: false,
        compose: false,
    },
    PreTokenizer {
        names: &["gpt-2", "phi-2", "mpt", "olmo", "gigachat", "trillion"],
        cuts: &[Cut::Regex(GPT2)],
        ignore_merges: false,
        add_bos: false,
        compose: false,
    },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        cuts: &[Cut::Digits, Cut::Regex(GPT2)],
        ignore_merges: false,
        add_bos: false,
        compose: false,
    },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"],
        cuts: &[Cut::Regex(LLAMA3)],
        ignore_merges: true,
        add_bos: true,
        compose: false,
    },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        cuts: &[Cut::Regex(QWEN2)],
        ignore_merges: false,
        add_bos: false,
        compose: true,
    },
    PreTokenizer {
        names: &["tekken"],
        cuts: &[Cut::Regex(TEKKEN)],
        ignore_merges: true,
        add_bos: true,
        compose: false,
    },
];

/// The pre-tokenizer that the metadata names.
///
/// # Errors
/// Nobody here knows it.
pub(super) fn find(metadata: &Metadata, context: &Context) -> Result<&'static PreTokenizer> {
    let name = metadata.text("tokenizer.ggml.pre")?.unwrap_or_else(|| {
        context.warn(
            "the file does not name its pre-tokenizer: llama.cpp's default is used, which may cut \
             text otherwise than the model was trained on",
        );
        "default"
    });
    let find = PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name));
    find.ok_or_else(|| {
        let known: Vec<_> = PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).copied().collect();
        Error::input(format!(
            "the pre-tokenizer `{name}` is not known: expected {}",
            known.join(", ")
        ))
        .hint("load the model's Hugging Face folder instead: its tokenizer.json is complete")
    })
}

impl PreTokenizer {
    /// Gives the tokenizer these cuts.
    pub(super) fn apply(&self, inner: &mut tokenizers::Tokenizer) -> Result<()> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for cut in self.cuts {
            steps.push(match cut {
                Cut::Digits => Digits::new(true).into(),
                Cut::Regex(regex) => {
                    let pattern = SplitPattern::Regex((*regex).to_owned());
                    Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                        .map_err(unusable)?
                        .into()
                }
            });
        }
        steps.push(ByteLevel::new(false, true, false).into());
        inner.with_pre_tokenizer(Some(Sequence::new(steps)));
        if self.compose {
            inner.with_normalizer(Some(NFC)).map_err(unusable)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::models::bpe::BPE;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::PRE_TOKENIZERS;

    #[test]
    fn text_is_cut_where_the_published_patterns_cut_it() {
        let text = "It's 1234567 HELLO we'Ll\r\n  x+y==2 日本e\u{301} ";
        // From the `tokenizers` package of Python, which has another engine (Oniguruma).
        let cases = [
            ("default", "It|'|s| |123|456|7| HELLO| we|'|Ll|\r\n | x|+|y|==|2| 日本e|\u{301}| "),
            ("gpt-2", "It|'s| 1234567| HELLO| we|'|Ll|\r\n | x|+|y|==|2| 日本e|\u{301}| "),
            ("smollm", "It|'s| |1|2|3|4|5|6|7| HELLO| we|'|Ll|\r\n | x|+|y|==|2| 日本e|\u{301}| "),
            ("llama-bpe", "It|'s| |123|456|7| HELLO| we|'Ll|\r\n| | x|+y|==|2| 日本e|\u{301}| "),
            ("qwen2", "It|'s| |1|2|3|4|5|6|7| HELLO| we|'Ll|\r\n| | x|+y|==|2| 日本e|\u{301}| "),
            ("tekken", "It|'s| |1|2|3|4|5|6|7| HELLO| we|'Ll|\r\n| | x|+y|==|2| 日本e\u{301}| "),
        ];
        assert_eq!(cases.len(), PRE_TOKENIZERS.len());
        for (name, expected) in cases {
            let pre = PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name)).unwrap();
            let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
            pre.apply(&mut tokenizer).unwrap();
            let mut cut = PreTokenizedString::from(text);
            tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut cut).unwrap();
            let splits = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let found: Vec<_> =
                splits.iter().map(|(_, (start, end), _)| &text[*start..*end]).collect();
            assert_eq!(found.join("|"), expected, "{name}");
        }
    }
}
