//! The halting head of a student: a linear probe of the state that is trained with the student.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::halting::{Gate, JointPolicy, STATE_EPS};
use crate::nn::halting_logit;

const WEIGHT: &str = "halt.weight";
const BIAS: &str = "halt.bias";

/// The tensors of a halting head by name, with their shapes: w, (D), and one bias b for each
/// repetition before the last, (N - 1); later repetitions use the last bias.
pub(super) fn tensors(
    policy: Option<JointPolicy>,
    width: usize,
    repetitions: usize,
) -> Vec<(String, Vec<usize>)> {
    let shapes = [(WEIGHT, width), (BIAS, repetitions.saturating_sub(1))];
    let present = shapes.into_iter().filter(|_| policy.is_some());
    present.map(|(name, count)| (name.to_owned(), vec![count])).collect()
}

/// The initial tensors of a halting head: w = 0, and biases under which a token stops after each
/// repetition with equal probability.
///
/// # Errors
/// A tensor cannot be allocated.
pub fn initial_halting_head(
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

/// A halting head with its weights.
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

    /// Halting logits, (.., 1), of states after `repetition`, counted from 0, (.., D).
    pub(super) fn logits(&self, tape: &Tape, state: &Value, repetition: usize) -> Result<Value> {
        let last = self.bias.tensor().elem_count() - 1;
        halting_logit(
            tape,
            state,
            (&self.weight, &self.bias),
            repetition.min(last),
            STATE_EPS.into(),
        )
    }

    /// The gate that the policy reads.
    pub(super) fn gate(&self) -> Result<(JointPolicy, Gate)> {
        let (weight, bias) = (self.weight.to_vec()?, self.bias.to_vec()?);
        Ok((self.policy, Gate { weight, change: 0.0, bias }))
    }
}
