//! Injection: how the prelude's output is mixed into the state before each repetition.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::TransformerConfig;
use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::nn::{inject_gated, inject_linear};

/// Initial weight of the state in an injection that mixes convexly.
const INITIAL_STATE_WEIGHT: f64 = 0.99;

/// How the prelude's output e is mixed into the state h before every repetition but the first, which
/// starts from e. Without injection the input is carried by the residual stream alone, and h may
/// grow with every repetition. Bai et al. 2019.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Injection {
    /// None: h.
    #[default]
    None,
    /// h + b e with a vector b that is initially 0: the student starts as one without injection.
    Additive,
    /// a h + b e with a = exp(-softplus(alpha)) in 0 to 1, dimension by dimension: the map of h is a
    /// contraction for all alpha. Initially 0.99 h + 0.01 e.
    Diagonal,
    /// s h + (1 - s) e with one s = sigmoid(w . norm(h) + c) for each token. Initially
    /// 0.99 h + 0.01 e.
    Gate,
}

impl Injection {
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
            Self::Additive => "additive",
            Self::Diagonal => "diagonal",
            Self::Gate => "gate",
        }
    }

    /// Names, sizes and initial values of its tensors.
    fn initial_values(self, width: usize) -> Vec<(&'static str, usize, f64)> {
        let logit = (INITIAL_STATE_WEIGHT / (1.0 - INITIAL_STATE_WEIGHT)).ln();
        match self {
            Self::None => vec![],
            Self::Additive => vec![("inject.b", width, 0.0)],
            Self::Diagonal => {
                vec![("inject.a", width, -logit), ("inject.b", width, 1.0 - INITIAL_STATE_WEIGHT)]
            }
            Self::Gate => {
                vec![("inject.gate.weight", width, 0.0), ("inject.gate.bias", 1, logit)]
            }
        }
    }

    /// Every tensor by name, with its shape, for a state of `width`. `inject.a` holds alpha.
    #[must_use]
    pub fn tensors(self, width: usize) -> Vec<(String, Vec<usize>)> {
        let tensors = self.initial_values(width).into_iter();
        tensors.map(|(name, count, _)| (name.to_owned(), vec![count])).collect()
    }

    /// The initial tensors, for a state of `width`.
    ///
    /// # Errors
    /// A tensor cannot be allocated.
    pub fn start(self, width: usize) -> Result<BTreeMap<String, Tensor>> {
        let tensors = self.initial_values(width).into_iter();
        tensors
            .map(|(name, count, value)| {
                let values = vec![value as f32; count];
                Ok((name.to_owned(), Tensor::from_vec(values, count, &Device::Cpu)?))
            })
            .collect()
    }
}

/// An injection with its weights.
#[derive(Debug, Clone)]
pub(super) enum Injector {
    None,
    /// alpha and b.
    Mix(Option<Weight>, Weight),
    /// Weight, bias, and the epsilon of the norm.
    Gate(Weight, Weight, f64),
}

impl Injector {
    pub(super) fn new(
        injection: Injection,
        base: &TransformerConfig,
        weights: &dyn Weights,
    ) -> Result<Self> {
        Ok(match injection {
            Injection::None => Self::None,
            Injection::Additive => Self::Mix(None, weights.weight("inject.b")?),
            Injection::Diagonal => {
                Self::Mix(Some(weights.weight("inject.a")?), weights.weight("inject.b")?)
            }
            Injection::Gate => Self::Gate(
                weights.weight("inject.gate.weight")?,
                weights.weight("inject.gate.bias")?,
                base.norm_eps,
            ),
        })
    }

    /// The input of a repetition: `state` after the previous one mixed with `prelude_state`, each
    /// (B, T, D).
    pub(super) fn inject(
        &self,
        tape: &Tape,
        state: &Value,
        prelude_state: &Value,
    ) -> Result<Value> {
        match self {
            Self::None => Ok(state.clone()),
            Self::Mix(alpha, b) => inject_linear(tape, state, prelude_state, alpha.as_ref(), b),
            Self::Gate(weight, bias, eps) => {
                inject_gated(tape, state, prelude_state, (weight, bias), *eps)
            }
        }
    }
}
