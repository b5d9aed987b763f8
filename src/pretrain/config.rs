//! Recipe sections of pretraining: model, tokenizer and supervision.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::SpecialTokens;
use crate::error::Result;
use crate::model::{RopeScaling, TransformerConfig};

/// The decoder to train: `[model]` of a recipe. It is of the Llama family, which every loader
/// supports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// L, layers.
    pub layers: usize,
    /// D, width of the residual stream.
    pub width: usize,
    /// H, query heads.
    pub heads: usize,
    /// Key and value heads; as many as `heads` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<usize>,
    /// Width of one head; `width / heads` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Inner width of the gated mlp; 8/3 of the width, rounded up to 16, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_width: Option<usize>,
    /// Longest sequence, in tokens.
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in every norm.
    pub norm_eps: f64,
    /// The output head is the embedding.
    pub tied_head: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            layers: 12,
            width: 128,
            heads: 4,
            kv_heads: None,
            head_width: None,
            mlp_width: None,
            max_positions: 1024,
            rope_theta: 10_000.0,
            norm_eps: 1e-5,
            tied_head: true,
        }
    }
}

impl ModelConfig {
    /// The same configuration with every optional width resolved.
    #[must_use]
    pub fn filled(&self) -> Self {
        Self {
            kv_heads: Some(self.kv_heads.unwrap_or(self.heads)),
            head_width: Some(self.head_width.unwrap_or(self.width / self.heads.max(1))),
            mlp_width: Some(
                self.mlp_width.unwrap_or((self.width * 8).div_ceil(3).next_multiple_of(16)),
            ),
            ..self.clone()
        }
    }

    /// The configuration of the decoder with a vocabulary of this size.
    ///
    /// # Errors
    /// The widths are inconsistent.
    pub fn transformer(
        &self,
        vocabulary: usize,
        special: &SpecialTokens,
    ) -> Result<TransformerConfig> {
        let filled = self.filled();
        let config = TransformerConfig {
            family: "llama".to_owned(),
            layers: self.layers,
            width: self.width,
            heads: self.heads,
            kv_heads: filled.kv_heads.unwrap_or(self.heads),
            head_width: filled.head_width.unwrap_or_default(),
            mlp_width: filled.mlp_width.unwrap_or_default(),
            vocabulary,
            max_positions: self.max_positions,
            norm_eps: self.norm_eps,
            rope_theta: self.rope_theta,
            rope_scaling: RopeScaling::None,
            tied_head: self.tied_head,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
            sliding_window: None,
            windowed_layers: None,
            bos_token: special.bos,
            eos_tokens: special.eos.clone(),
        };
        config.validate().map_err(|error| error.at("[model] of the recipe"))?;
        Ok(config)
    }
}

/// The tokenizer of a new model: `[tokenizer]` of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TokenizerConfig {
    /// A byte-level BPE trained on the training text.
    Bpe {
        /// V, number of tokens, including the 256 bytes.
        vocabulary: usize,
    },
    /// A published `tokenizer.json`.
    File {
        /// Path of the file.
        path: String,
    },
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self::Bpe { vocabulary: 1024 }
    }
}

/// Supervision of the steps of a chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Supervision {
    /// Final answer only.
    #[default]
    Final,
    /// Every step.
    Chain,
    /// A number of evenly spaced steps, and the answer.
    Some {
        /// Number of supervised steps before the answer.
        steps: usize,
    },
}

impl Supervision {
    /// The supervised steps before the last of `all`, counted from 0.
    #[must_use]
    pub fn steps(self, all: usize) -> Vec<usize> {
        let before = all.saturating_sub(1);
        match self {
            Self::Final => Vec::new(),
            Self::Chain => (0..before).collect(),
            Self::Some { steps } => {
                let count = steps.min(before);
                (1..=count)
                    .map(|part| part * all / (count + 1))
                    .map(|step| step.max(1) - 1)
                    .collect()
            }
        }
    }
}
