//! Reading of GGUF metadata into a decoder configuration.

use std::f64::consts::TAU;

use super::header::Header;
use super::value::Metadata;
use crate::error::{Error, Result};
use crate::hub::adapter::Family;
use crate::model::{RopeScaling, TransformerConfig};

/// Per-frequency divisors of Llama 3.1 and later.
pub(super) const ROPE_FREQUENCIES: &str = "rope_freqs.weight";

/// f32 divisors against ours in f64.
const F32_ROUNDING: f64 = 1e-5;

/// The family of the file.
///
/// # Errors
/// It is not one of ours.
pub(super) fn family(metadata: &Metadata) -> Result<&'static Family> {
    let name = metadata.text("general.architecture")?;
    let name = name.ok_or_else(|| Error::input("the metadata has no `general.architecture`"))?;
    Family::of_gguf(name)
}

/// The shape of the model, from the metadata and from which tensors there are.
///
/// # Errors
/// A key is missing or out of range, or the model does something that is not supported.
pub(super) fn read(header: &Header, family: &Family) -> Result<TransformerConfig> {
    let keys = Keys { metadata: &header.metadata, family: family.gguf.architecture };
    keys.refuse_unsupported()?;
    let has = |name: &str| header.tensors.contains_key(name);
    let (width, heads) = (keys.need("embedding_length")?, keys.need("attention.head_count")?);
    let head_width = match keys.size("attention.key_length")? {
        Some(head_width) => head_width,
        None if heads > 0 && width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(Error::input(format!("{heads} heads do not divide a width of {width}")));
        }
    };
    keys.expect("attention.value_length", head_width)?;
    keys.expect("rope.dimension_count", head_width)?;
    let max_positions = keys.need("context_length")?;
    let sliding_window = keys.size("attention.sliding_window")?.filter(|&window| window > 0);
    let mut config = TransformerConfig {
        // Both call themselves `llama`; a window is what sets them apart.
        family: if sliding_window.is_some() { "mistral" } else { family.name }.to_owned(),
        layers: keys.need("block_count")?,
        width,
        heads,
        kv_heads: keys.size("attention.head_count_kv")?.unwrap_or(heads),
        head_width,
        mlp_width: keys.need("feed_forward_length")?,
        vocabulary: header.tensors.get("token_embd.weight").map_or(0, |info| info.shape[0]),
        max_positions,
        norm_eps: keys.need_number("attention.layer_norm_rms_epsilon")?,
        // llama.cpp's own default.
        rope_theta: keys.number("rope.freq_base")?.unwrap_or(10_000.0),
        rope_scaling: keys.rope_scaling()?,
        tied_head: !has("output.weight"),
        qkv_bias: has("blk.0.attn_q.bias"),
        output_bias: has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_gate.bias"),
        qk_norm: has("blk.0.attn_q_norm.weight"),
        sliding_window,
        windowed_layers: None,
        bos_token: header.metadata.token("tokenizer.ggml.bos_token_id")?,
        eos_tokens: Vec::new(),
    };
    if config.vocabulary == 0 {
        return Err(Error::input("the file has no tensor `token_embd.weight`"));
    }
    config.eos_tokens = end_tokens(&header.metadata)?;
    config.validate()?;
    Ok(config)
}

/// The tokens that end a text, the tokenizer's own first.
pub(super) fn end_tokens(metadata: &Metadata) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        let token = metadata.token(&format!("tokenizer.ggml.{key}"))?;
        tokens.extend(token.filter(|token| !tokens.contains(token)));
    }
    Ok(tokens)
}

/// The keys that begin with the family's name.
struct Keys<'a> {
    metadata: &'a Metadata<'a>,
    family: &'static str,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.family)
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        self.metadata.size(&self.full(key))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.metadata.number(&self.full(key))
    }

    fn missing(&self, key: &str) -> Error {
        Error::input(format!("the metadata has no `{}`", self.full(key)))
    }

    fn need(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    fn need_number(&self, key: &str) -> Result<f64> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    fn expect(&self, key: &str, expected: usize) -> Result<()> {
        match self.size(key)? {
            Some(found) if found != expected => Err(Error::input(format!(
                "`{}` is {found}, expected the width of a head, {expected}",
                self.full(key)
            ))),
            _ => Ok(()),
        }
    }

    fn refuse_unsupported(&self) -> Result<()> {
        if let Some(parts) = self.metadata.size("split.count")?.filter(|&parts| parts > 1) {
            return Err(Error::input(format!("this is one of the {parts} parts of a model"))
                .hint("join the parts with `llama-gguf-split --merge`, and name the result"));
        }
        if let Some(experts) = self.size("expert_count")?.filter(|&experts| experts > 0) {
            return Err(Error::input(format!("a mixture of {experts} experts does not fit"))
                .hint("take a dense model of the family"));
        }
        if self.metadata.flag(&self.full("attention.causal"))? == Some(false) {
            return Err(Error::input("this model looks both ways: expected a causal decoder"));
        }
        Ok(())
    }

    fn rope_scaling(&self) -> Result<RopeScaling> {
        let kind = self.metadata.text(&self.full("rope.scaling.type"))?;
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.number("rope.scale_linear")?,
        };
        match (kind, factor) {
            (None | Some("linear"), Some(factor)) if (factor - 1.0).abs() > f64::EPSILON => {
                Ok(RopeScaling::Linear { factor })
            }
            (Some("linear"), Some(_)) | (None | Some("none"), _) => Ok(RopeScaling::None),
            (Some("linear"), None) => Err(self.missing("rope.scaling.factor")),
            (Some(other), _) => {
                Err(Error::input(format!("rope scaling `{other}` does not fit: expected linear"))
                    .hint("set no scaling for a context within what the model was trained for"))
            }
        }
    }
}

/// Llama 3.1 files carry the divisor of every frequency instead of the numbers it came from; the
/// published models share all but `factor`.
pub(super) fn llama3(divisors: &[f32], config: &TransformerConfig) -> Result<RopeScaling> {
    let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
    let (low_freq_factor, high_freq_factor, original_positions) = (1.0, 4.0, 8192);
    let expected = (0..config.head_width / 2).map(|pair| {
        let frequency = config.rope_theta.powf(-2.0 * pair as f64 / config.head_width as f64);
        let turns = original_positions as f64 * frequency / TAU;
        // turns = original_positions / wavelength; Llama 3.1, `_compute_llama3_parameters`.
        let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
        let smooth = smooth.clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / factor + smooth)
    });
    let close =
        |(found, expected): (&f32, f64)| (f64::from(*found) / expected - 1.0).abs() < F32_ROUNDING;
    if divisors.len() != config.head_width / 2 || !divisors.iter().zip(expected).all(close) {
        return Err(Error::input(format!(
            "`{ROPE_FREQUENCIES}` does not follow Llama 3.1's rule with 1, 4 and 8192 positions"
        ))
        .hint("load the model's Hugging Face folder instead: its config.json has the numbers"));
    }
    Ok(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions })
}
