//! The norm of the state between two repetitions of the core.

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::TransformerConfig;
use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::nn::rms_norm;

/// The name of its tensor.
const NAME: &str = "between.norm.weight";

/// The norm of the state h between two repetitions, before the injection. Every repetition adds to
/// h, which may grow without bound past the trained N.
///
/// The norm applies to the input of the next repetition alone. The coda, the hidden-state loss and
/// halting policies read the state as the core has left it: a student of one repetition has no
/// norm to apply, and stopping after r gives the output of a student of r repetitions. Geiping et
/// al. 2025 also norm the output of their core, with which their coda is trained; here the coda is
/// initialised from the teacher, whose residual stream is not normed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateNorm {
    /// None: h.
    #[default]
    None,
    /// w h / sqrt(mean(h^2) + eps), with one w for all repetitions, initially the RMS of the teacher's
    /// states: the input of the next repetition has bounded size. Zhang & Sennrich 2019; Geiping et
    /// al. 2025.
    Norm,
}

impl StateNorm {
    /// Whether there is none.
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

    /// The initial tensors, for states of `width` with root mean square `rms`.
    ///
    /// # Errors
    /// A tensor cannot be allocated.
    pub fn start(self, width: usize, rms: f32) -> Result<Vec<(String, Tensor)>> {
        let tensors = self.tensors(width).into_iter();
        tensors.map(|(name, shape)| Ok((name, Tensor::full(rms, shape, &Device::Cpu)?))).collect()
    }
}

/// A state norm with its weight.
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

    /// Norms the state after a repetition, (B, T, D).
    pub(super) fn apply(&self, tape: &Tape, state: &Value) -> Result<Value> {
        match self {
            Self::None => Ok(state.clone()),
            Self::Rms(weight, eps) => rms_norm(tape, state, weight, *eps),
        }
    }
}
