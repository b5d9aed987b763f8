//! What does a fitted head say of a state?

use serde::{Deserialize, Serialize};

/// Added to the mean square of a state before it is scaled.
pub const STATE_EPS: f32 = 1e-6;

/// A linear head on the normed state after a repetition: w . h / rms(h) + v ln(change) + b_r.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// w, (D).
    pub weight: Vec<f32>,
    /// v, of the logarithm of the relative change of the state.
    pub change: f32,
    /// b, (N); past N the last one goes on.
    pub bias: Vec<f32>,
}

impl Gate {
    /// A head that says `logit` of everything.
    #[must_use]
    pub fn new(width: usize, repetitions: usize, logit: f32) -> Self {
        Self { weight: vec![0.0; width], change: 0.0, bias: vec![logit; repetitions] }
    }

    /// What it says of `state`, (D), which changed by `change` at `repetition`, from 1; before the
    /// sigmoid.
    #[must_use]
    pub fn logit(&self, state: &[f32], change: f32, repetition: usize) -> f32 {
        let squares: f32 = state.iter().map(|x| x * x).sum();
        let scale = 1.0 / (squares / state.len().max(1) as f32 + STATE_EPS).sqrt();
        let along: f32 = state.iter().zip(&self.weight).map(|(x, w)| x * w).sum();
        along * scale + self.change * log_change(change) + self.bias_at(repetition)
    }

    /// b at `repetition`, from 1.
    #[must_use]
    pub fn bias_at(&self, repetition: usize) -> f32 {
        let last = self.bias.len().saturating_sub(1);
        self.bias.get((repetition - 1).min(last)).copied().unwrap_or_default()
    }
}

/// The logarithm of a change, of none at all a number that is low enough.
pub(super) fn log_change(change: f32) -> f32 {
    change.max(1e-6).ln()
}

/// 1 / (1 + e^-x).
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Probability of stopping after each repetition, when each gate stops what came so far with its
/// own probability and the last one stops the rest: (N) from (N) logits.
#[must_use]
pub fn survival(logits: &[f32]) -> Vec<f32> {
    let mut left = 1.0;
    let mut probability: Vec<f32> = Vec::with_capacity(logits.len());
    for (index, &logit) in logits.iter().enumerate() {
        let stops = if index + 1 == logits.len() { 1.0 } else { sigmoid(logit) };
        probability.push(left * stops);
        left *= 1.0 - stops;
    }
    probability
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_reads_the_direction_of_a_state_its_change_and_the_repetition() {
        let gate = Gate { weight: vec![1.0, -2.0], change: 0.5, bias: vec![0.25, 3.0] };
        // rms(3, 4) = sqrt(12.5): (3 - 8) / 3.5355 + 0.5 ln(e^2) + bias.
        let expected = -5.0 / 12.5_f32.sqrt() + 1.0;
        let change = 2.0_f32.exp();
        for (repetition, bias) in [(1, 0.25), (2, 3.0), (7, 3.0)] {
            let found = gate.logit(&[3.0, 4.0], change, repetition);
            assert!((found - expected - bias).abs() < 1e-5, "{found}");
        }
    }

    #[test]
    fn what_survives_sums_to_one() {
        let sum: f32 = survival(&[-2.0, 0.3, 1.0, -9.0]).iter().sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
}
