//! Configuration of a pre-norm rotary decoder: the axes on which the published families differ.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Scaling of the rotary frequencies beyond the trained context.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RopeScaling {
    /// None.
    #[default]
    None,
    /// Positions are divided by `factor`.
    Linear {
        /// Ratio of the new context to the trained one.
        factor: f64,
    },
    /// Low frequencies are divided by `factor`, high ones unchanged, those between interpolated
    /// (Llama 3.1).
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths longer than `original_positions / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths shorter than `original_positions / high_freq_factor` are unchanged.
        high_freq_factor: f64,
        /// The trained context in tokens.
        original_positions: usize,
    },
}

/// The axes on which pre-norm rotary decoders differ. Every family here is a value of this type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Published family: `llama`, `mistral`, `qwen2`, `qwen3`.
    pub family: String,
    /// L, layers.
    pub layers: usize,
    /// D, width of the residual stream.
    pub width: usize,
    /// H, query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; not always `width / heads`.
    pub head_width: usize,
    /// Inner width of the gated MLP.
    pub mlp_width: usize,
    /// V, vocabulary.
    pub vocabulary: usize,
    /// Longest sequence the teacher was trained for, in tokens.
    pub max_positions: usize,
    /// Added to the mean square in every RMS norm.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    #[serde(default)]
    pub rope_scaling: RopeScaling,
    /// The output head is the embedding.
    #[serde(default)]
    pub tied_head: bool,
    /// Query, key and value have a bias (Qwen2, some Llamas).
    #[serde(default)]
    pub qkv_bias: bool,
    /// The attention output has a bias.
    #[serde(default)]
    pub output_bias: bool,
    /// The three MLP matrices have a bias.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Query and key are RMS-normed per head (Qwen3).
    #[serde(default)]
    pub qk_norm: bool,
    /// Sliding window in tokens, the query's own included (Mistral); none for full causal attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// The layers the window applies to, when not all of them, from the bottom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windowed_layers: Option<Vec<bool>>,
    /// Token put before a sequence, if the tokenizer uses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token: Option<u32>,
    /// Tokens that end a sequence.
    #[serde(default)]
    pub eos_tokens: Vec<u32>,
}

impl TransformerConfig {
    /// Refuses shapes that no decoder has, before anything is allocated.
    ///
    /// # Errors
    /// The first value out of its range, with the range.
    pub fn validate(&self) -> Result<()> {
        let at_least_one = [
            ("layers", self.layers, 4096),
            ("width", self.width, 1 << 17),
            ("heads", self.heads, 4096),
            ("kv_heads", self.kv_heads, 4096),
            ("head_width", self.head_width, 1 << 14),
            ("mlp_width", self.mlp_width, 1 << 20),
            ("vocabulary", self.vocabulary, 1 << 24),
            ("max_positions", self.max_positions, usize::MAX),
        ];
        for (name, value, limit) in at_least_one {
            if value == 0 || value > limit {
                return Err(Error::input(format!("{name} is {value}, expected 1 to {limit}"))
                    .hint("is config.json damaged, or from another kind of model?"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::input(format!(
                "{} query heads cannot be grouped over {} key heads: expected a multiple",
                self.heads, self.kv_heads
            )));
        }
        if !self.head_width.is_multiple_of(2) {
            return Err(Error::input(format!(
                "a head of width {} cannot be rotated in pairs: expected an even width",
                self.head_width
            )));
        }
        let in_range = |value: f64, high: f64| value.is_finite() && value > 0.0 && value <= high;
        if !in_range(self.norm_eps, 1.0) || !in_range(self.rope_theta, 1e12) {
            return Err(Error::input(format!(
                "norm_eps {} and rope_theta {} must be positive numbers",
                self.norm_eps, self.rope_theta
            )));
        }
        if self.sliding_window == Some(0) {
            return Err(Error::input(
                "a sliding window of 0 tokens attends to nothing: expected 1 or more",
            ));
        }
        if self.windowed_layers.as_ref().is_some_and(|layers| layers.len() != self.layers) {
            return Err(Error::input(format!(
                "windowed_layers must name all {} layers",
                self.layers
            )));
        }
        Ok(())
    }

    /// The attention window of `layer`, if it has one.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        match &self.windowed_layers {
            Some(layers) if !layers.get(layer).copied().unwrap_or(false) => None,
            _ => self.sliding_window,
        }
    }

    /// Shapes of the tensors of one layer, by the last part of their name, in a fixed order: the
    /// table for loading, initialising and exporting.
    #[must_use]
    pub fn layer_tensors(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (width, mlp) = (self.width, self.mlp_width);
        let (query, key) = (self.heads * self.head_width, self.kv_heads * self.head_width);
        let mut tensors = vec![
            ("attention_norm.weight", vec![width]),
            ("attention.q.weight", vec![query, width]),
            ("attention.k.weight", vec![key, width]),
            ("attention.v.weight", vec![key, width]),
            ("attention.o.weight", vec![width, query]),
            ("mlp_norm.weight", vec![width]),
            ("mlp.gate.weight", vec![mlp, width]),
            ("mlp.up.weight", vec![mlp, width]),
            ("mlp.down.weight", vec![width, mlp]),
        ];
        if self.qkv_bias {
            tensors.push(("attention.q.bias", vec![query]));
            tensors.push(("attention.k.bias", vec![key]));
            tensors.push(("attention.v.bias", vec![key]));
        }
        if self.output_bias {
            tensors.push(("attention.o.bias", vec![width]));
        }
        if self.qk_norm {
            tensors.push(("attention.q_norm.weight", vec![self.head_width]));
            tensors.push(("attention.k_norm.weight", vec![self.head_width]));
        }
        if self.mlp_bias {
            tensors.push(("mlp.gate.bias", vec![mlp]));
            tensors.push(("mlp.up.bias", vec![mlp]));
            tensors.push(("mlp.down.bias", vec![width]));
        }
        tensors
    }

    /// Shapes of the tensors outside the layers: `embed.weight`, `norm.weight` and, when the
    /// head is its own, `head.weight`.
    #[must_use]
    pub fn outer_tensors(&self) -> Vec<(&'static str, Vec<usize>)> {
        let mut tensors = vec![
            ("embed.weight", vec![self.vocabulary, self.width]),
            ("norm.weight", vec![self.width]),
        ];
        if !self.tied_head {
            tensors.push(("head.weight", vec![self.vocabulary, self.width]));
        }
        tensors
    }

    /// Every tensor of an unshared stack by name, with its shape.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let outer = self.outer_tensors().into_iter().map(|(name, shape)| (name.to_owned(), shape));
        let layers = (0..self.layers).flat_map(|layer| {
            let table = self.layer_tensors().into_iter();
            table.map(move |(name, shape)| (format!("layers.{layer}.{name}"), shape))
        });
        outer.chain(layers).collect()
    }

    /// Parameters of one layer.
    #[must_use]
    pub fn layer_parameters(&self) -> usize {
        self.layer_tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}
