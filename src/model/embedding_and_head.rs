//! The parts of a model around its layers: embedding, final norm, head, and the frequencies of RoPE.

use candle_core::{Device, Tensor};

use super::config::{RopeScaling, TransformerConfig};
use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::nn::{Linear, RopeTable, embedding, rms_norm};

/// The parts around the layers: embedding, final norm, head, and the frequencies of RoPE.
#[derive(Debug, Clone)]
pub struct EmbeddingAndHead {
    pub(crate) embed: Weight,
    pub(crate) norm: Weight,
    head: Weight,
    norm_eps: f64,
    pub(crate) inverse_frequencies: Vec<f32>,
}

impl EmbeddingAndHead {
    /// Takes `embed.weight`, `norm.weight` and, unless it is tied, `head.weight`.
    ///
    /// # Errors
    /// A weight is missing.
    pub fn new(config: &TransformerConfig, weights: &dyn Weights) -> Result<Self> {
        let embed = weights.weight("embed.weight")?;
        let head = if config.tied_head { embed.clone() } else { weights.weight("head.weight")? };
        Ok(Self {
            embed,
            norm: weights.weight("norm.weight")?,
            head,
            norm_eps: config.norm_eps,
            inverse_frequencies: inverse_frequencies(config),
        })
    }

    /// Embeds ids: (B, T) u32 to (B, T, D).
    ///
    /// # Errors
    /// An id is past the vocabulary.
    pub fn embed(&self, tape: &Tape, ids: &Tensor) -> Result<Value> {
        embedding(tape, &self.embed, ids)
    }

    /// The rotations of `tokens` positions from `start`.
    #[must_use]
    pub fn rope(&self, start: usize, tokens: usize) -> RopeTable {
        RopeTable::new(&self.inverse_frequencies, start, tokens)
    }

    /// The final norm: (B, T, D) to (B, T, D).
    ///
    /// # Errors
    /// The width differs.
    pub fn normed(&self, tape: &Tape, state: &Value) -> Result<Value> {
        rms_norm(tape, state, &self.norm, self.norm_eps)
    }

    /// The head, (V, D).
    #[must_use]
    pub fn head(&self) -> &Weight {
        &self.head
    }

    /// Logits, (B, T, V), of a state before the final norm, (B, T, D).
    ///
    /// # Errors
    /// The width differs.
    pub fn logits(&self, state: &Tensor) -> Result<Tensor> {
        let tape = Tape::off();
        let normed = self.normed(&tape, &Value::constant(state.clone()))?;
        let head = Linear { weight: self.head.clone(), bias: None, low_rank: None };
        Ok(head.forward(&tape, &normed)?.tensor().clone())
    }

    /// Device of the weights.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.embed.tensor().device()
    }
}

/// 1 / theta^(2i / head width), scaled as configured, (head width / 2). Su et al. 2021.
// f32 throughout, as in the published implementations.
fn inverse_frequencies(config: &TransformerConfig) -> Vec<f32> {
    let width = config.head_width;
    let plain = (0..width / 2)
        .map(|i| 1.0 / (config.rope_theta as f32).powf((2 * i) as f32 / width as f32));
    let period = 2.0 * std::f32::consts::PI;
    plain
        .map(|frequency| match &config.rope_scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / *factor as f32,
            // Llama 3.1: interpolate between f / factor and f by the periods in the original context.
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_positions,
            } => {
                let (low, high) = (*low_freq_factor as f32, *high_freq_factor as f32);
                let periods = *original_positions as f32 * frequency / period;
                let scaled = frequency / *factor as f32;
                if periods < low {
                    scaled
                } else if periods > high {
                    frequency
                } else {
                    let smooth = (periods - low) / (high - low);
                    (1.0 - smooth) * scaled + smooth * frequency
                }
            }
        })
        .collect()
}
