//! How does a repetition hear what the prelude said?

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::TransformerConfig;
use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::nn::injection::{gate, mix};

/// How much of the state stays at the start, where an injection takes some of it away.
const KEPT: f64 = 0.99;

/// What of the prelude's output e is mixed into the state h before every repetition but the first,
/// which starts from it. Without it only the residual stream remembers the text, and h may grow
/// with every repetition. Bai et al. 2019.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Injection {
    /// Nothing: h.
    #[default]
    None,
    /// h + b e with a vector b that starts as 0: the student starts as one without it.
    Additive,
    /// a h + b e with a = exp(-softplus(alpha)) in 0 to 1, dimension by dimension: by itself the
    /// mixing is a contraction, whatever is learned. It starts as 0.99 h + 0.01 e.
    Diagonal,
    /// s h + (1 - s) e with s = sigmoid(w . norm(h) + c), one number for each token. It starts as
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

    /// Its tensors by name, with the number they start as.
    fn begins(self, width: usize) -> Vec<(&'static str, usize, f64)> {
        let logit = (KEPT / (1.0 - KEPT)).ln();
        match self {
            Self::None => vec![],
            Self::Additive => vec![("inject.b", width, 0.0)],
            Self::Diagonal => {
                vec![("inject.a", width, -logit), ("inject.b", width, 1.0 - KEPT)]
            }
            Self::Gate => {
                vec![("inject.gate.weight", width, 0.0), ("inject.gate.bias", 1, logit)]
            }
        }
    }

    /// Every tensor by name, with its shape, for a state of `width`. `inject.a` holds alpha.
    #[must_use]
    pub fn tensors(self, width: usize) -> Vec<(String, Vec<usize>)> {
        let begins = self.begins(width).into_iter();
        begins.map(|(name, count, _)| (name.to_owned(), vec![count])).collect()
    }

    /// The same tensors as they start.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn start(self, width: usize) -> Result<BTreeMap<String, Tensor>> {
        let begins = self.begins(width).into_iter();
        begins
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

    /// What a repetition starts from: `state` after the one before it, and what the prelude said
    /// `first`, each (B, T, D).
    pub(super) fn inject(&self, tape: &Tape, state: &Value, first: &Value) -> Result<Value> {
        match self {
            Self::None => Ok(state.clone()),
            Self::Mix(alpha, b) => mix(tape, state, first, alpha.as_ref(), b),
            Self::Gate(weight, bias, eps) => gate(tape, state, first, (weight, bias), *eps),
        }
    }
}
