//! What does a student say of when its tokens are done?

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::halting::gate::STATE_EPS;
use crate::halting::{Gate, JointPolicy};
use crate::nn::halting_head::along;

const WEIGHT: &str = "halt.weight";
const BIAS: &str = "halt.bias";

/// The tensors of a gate that learned with its student, by name, with their shapes: w, (D), and b of
/// the repetitions before the last, (N - 1); past them the last one goes on.
pub(super) fn tensors(
    policy: Option<JointPolicy>,
    width: usize,
    repetitions: usize,
) -> Vec<(String, Vec<usize>)> {
    let shapes = [(WEIGHT, width), (BIAS, repetitions.saturating_sub(1))];
    let some = shapes.into_iter().filter(|_| policy.is_some());
    some.map(|(name, count)| (name.to_owned(), vec![count])).collect()
}

/// The same tensors as they start: no state says more than another, and a token stops after each
/// repetition equally often.
///
/// # Errors
/// There is no memory for them.
pub fn start(
    policy: Option<JointPolicy>,
    width: usize,
    repetitions: usize,
) -> Result<BTreeMap<String, Tensor>> {
    let Some(policy) = policy else { return Ok(BTreeMap::new()) };
    let bias = policy.start(repetitions);
    let count = bias.len();
    Ok(BTreeMap::from([
        (WEIGHT.to_owned(), Tensor::zeros(width, DType::F32, &Device::Cpu)?),
        (BIAS.to_owned(), Tensor::from_vec(bias, count, &Device::Cpu)?),
    ]))
}

/// A gate with its weights.
#[derive(Debug, Clone)]
pub(super) struct Head {
    policy: JointPolicy,
    weight: Weight,
    bias: Weight,
}

impl Head {
    pub(super) fn new(policy: Option<JointPolicy>, weights: &dyn Weights) -> Result<Option<Self>> {
        let Some(policy) = policy else { return Ok(None) };
        let (weight, bias) = (weights.weight(WEIGHT)?, weights.weight(BIAS)?);
        Ok(Some(Self { policy, weight, bias }))
    }

    /// What it says of states after `repetition`, counted from 0, (.., D), before the sigmoid:
    /// (.., 1).
    pub(super) fn logits(&self, tape: &Tape, state: &Value, repetition: usize) -> Result<Value> {
        let last = self.bias.tensor().elem_count() - 1;
        along(tape, state, (&self.weight, &self.bias), repetition.min(last), STATE_EPS.into())
    }

    /// The same as policies read it.
    pub(super) fn numbers(&self) -> Result<(JointPolicy, Gate)> {
        let of = |weight: &Weight| weight.tensor().to_dtype(DType::F32)?.to_vec1::<f32>();
        let (weight, bias) = (of(&self.weight)?, of(&self.bias)?);
        Ok((self.policy, Gate { weight, change: 0.0, bias }))
    }
}
