//! The linear gate that halting policies read.

use serde::{Deserialize, Serialize};

/// Added to the mean square of a state before it is normalised.
pub const STATE_EPS: f32 = 1e-6;

/// A linear head on the normalised state after a repetition: w . h / rms(h) + v ln(change) + b_r.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// w, (D).
    pub weight: Vec<f32>,
    /// v, the coefficient of the logarithm of the relative change of the state.
    pub change: f32,
    /// b, (N); later repetitions use the last one.
    pub bias: Vec<f32>,
}

impl Gate {
    /// A gate whose output is always `logit`.
    #[must_use]
    pub fn new(width: usize, repetitions: usize, logit: f32) -> Self {
        Self { weight: vec![0.0; width], change: 0.0, bias: vec![logit; repetitions] }
    }

    /// The logit for `state`, (D), with the relative change `change` after `repetition`, counted
    /// from 1.
    #[must_use]
    pub fn logit(&self, state: &[f32], change: f32, repetition: usize) -> f32 {
        let squares: f32 = state.iter().map(|x| x * x).sum();
        let scale = 1.0 / (squares / state.len().max(1) as f32 + STATE_EPS).sqrt();
        let projection: f32 = state.iter().zip(&self.weight).map(|(x, w)| x * w).sum();
        projection * scale + self.change * log_change(change) + self.bias_at(repetition)
    }

    /// b after `repetition`, counted from 1.
    #[must_use]
    pub fn bias_at(&self, repetition: usize) -> f32 {
        let last = self.bias.len().saturating_sub(1);
        self.bias.get((repetition - 1).min(last)).copied().unwrap_or_default()
    }
}

/// The logarithm of a relative change of at least 1e-6.
pub(super) fn log_change(change: f32) -> f32 {
    change.max(1e-6).ln()
}

/// 1 / (1 + e^-x).
#[must_use]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Halting distribution p of the gate logits, (N) from (N): p_n = l_n * prod_{m<n}(1 - l_m) with
/// l = sigmoid(logit); the last repetition takes the remaining probability. Banino et al. 2021.
#[must_use]
pub fn survival(logits: &[f32]) -> Vec<f32> {
    let mut remaining = 1.0;
    let mut probability: Vec<f32> = Vec::with_capacity(logits.len());
    for (index, &logit) in logits.iter().enumerate() {
        let lambda = if index + 1 == logits.len() { 1.0 } else { sigmoid(logit) };
        probability.push(remaining * lambda);
        remaining *= 1.0 - lambda;
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
            let logit = gate.logit(&[3.0, 4.0], change, repetition);
            assert!((logit - expected - bias).abs() < 1e-5, "{logit}");
        }
    }

    #[test]
    fn a_halting_distribution_sums_to_one() {
        let sum: f32 = survival(&[-2.0, 0.3, 1.0, -9.0]).iter().sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
}
