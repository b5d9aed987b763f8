//! A token leaves when its gates have let most of it go. Zhu et al. 2025 (Ouro): the survival
//! product of PonderNet with the entropy of the exit as its reward, then a second stage on the
//! frozen model: a gate learns whether one more repetition still helps.

use super::gate::survival;
use super::policy::{HaltingPolicy, Reads, Signal, StopDistribution};
use super::ponder::stopped;

/// Leaves at the first repetition with P(left) >= `threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExitGate {
    /// q, 0 to 1.
    pub threshold: f32,
}

impl HaltingPolicy for ExitGate {
    fn reads(&self) -> Reads {
        Reads { output: false, gate: true }
    }

    fn stops(&self, signals: &[Signal]) -> bool {
        stopped(signals) >= self.threshold
    }

    /// The cost is the negative entropy of the exit: a uniform prior but for a constant.
    fn distribution(&self, signals: &[Signal]) -> StopDistribution {
        let logits: Vec<f32> = signals.iter().filter_map(|signal| signal.gate).collect();
        let probability = survival(&logits);
        let cost = probability.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum();
        StopDistribution { probability, cost }
    }
}

/// What the second stage asks of a gate after a repetition: the probability of going on,
/// sigmoid(k (gain - gamma)), where `gain` is what the next repetition takes off the loss, 0 if it
/// adds to it, and k = 0.25 / gamma keeps the paper's 50 at its gamma of 0.005.
#[must_use]
pub fn goes_on(gain: f32, gamma: f32) -> f32 {
    super::gate::sigmoid(0.25 / gamma * (gain.max(0.0) - gamma))
}

#[cfg(test)]
mod tests {
    use super::super::policy::examples::{assert_near, gates, logit};
    use super::*;

    #[test]
    fn the_cost_is_the_negative_entropy() {
        let signals = gates(&[0.25, 0.5, 0.5].map(logit));
        let found = ExitGate { threshold: 0.5 }.distribution(&signals);
        assert_near(&found.probability, &[0.25, 0.375, 0.375]);
        let entropy = -(0.25 * 0.25_f32.ln() + 2.0 * 0.375 * 0.375_f32.ln());
        assert_near(&[found.cost], &[-entropy]);
        assert_eq!(ExitGate { threshold: 0.5 }.stop(&signals), 2);
    }

    #[test]
    fn a_gain_of_gamma_is_undecided() {
        assert_near(&[goes_on(0.005, 0.005)], &[0.5]);
        // 50 (0.025 - 0.005) = 1.
        assert_near(&[goes_on(0.025, 0.005)], &[1.0 / (1.0 + (-1.0_f32).exp())]);
        assert_near(&[goes_on(-3.0, 0.005)], &[goes_on(0.0, 0.005)]);
    }
}
