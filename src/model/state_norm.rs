//! In which size does a repetition hear the state of the one before it?

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::TransformerConfig;
use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::nn::norm::rms_norm;

/// The one tensor it has.
const NAME: &str = "between.norm.weight";

/// What is done to the state h between two repetitions, before an injection mixes the prelude's
/// output into it. Every repetition adds to h, which may grow without end past the trained N.
///
/// Only what the next repetition hears is changed. What is read out, compared with the teacher and
/// looked at to halt is the state as the core left it, after whichever repetition: a student of one
/// repetition has no norm to apply, and one that stops after r says what a student made for r
/// would. Geiping et al. 2025 norm what leaves their core as well, with which their coda is
/// trained; here the coda starts as the teacher's, which reads a stream of the teacher's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateNorm {
    /// Nothing: h.
    #[default]
    None,
    /// w h / sqrt(mean(h^2) + eps), with one w for all repetitions, which starts as the size that
    /// the teacher's states have there: whatever the core adds, the next repetition starts from a
    /// state of bounded size. Zhang & Sennrich 2019; Geiping et al. 2025.
    Norm,
}

impl StateNorm {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Its name in a recipe.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Norm => "norm",
        }
    }

    /// Every tensor by name, with its shape, for a state of `width`.
    #[must_use]
    pub fn tensors(self, width: usize) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::None => vec![],
            Self::Norm => vec![(NAME.to_owned(), vec![width])],
        }
    }

    /// The same tensors as they start among states whose numbers are `size` large.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn start(self, width: usize, size: f32) -> Result<Vec<(String, Tensor)>> {
        let tensors = self.tensors(width).into_iter();
        tensors.map(|(name, shape)| Ok((name, Tensor::full(size, shape, &Device::Cpu)?))).collect()
    }
}

/// The same with its weight.
#[derive(Debug, Clone)]
pub(super) enum Norm {
    None,
    /// Weight, and the epsilon of the norm.
    Rms(Weight, f64),
}

impl Norm {
    pub(super) fn new(
        state_norm: StateNorm,
        base: &TransformerConfig,
        weights: &dyn Weights,
    ) -> Result<Self> {
        Ok(match state_norm {
            StateNorm::None => Self::None,
            StateNorm::Norm => Self::Rms(weights.weight(NAME)?, base.norm_eps),
        })
    }

    /// What the next repetition hears of the state `h` after one, (B, T, D).
    pub(super) fn apply(&self, tape: &Tape, state: &Value) -> Result<Value> {
        match self {
            Self::None => Ok(state.clone()),
            Self::Rms(weight, eps) => rms_norm(tape, state, weight, *eps),
        }
    }
}
