//! Exit gate. Zhu et al. 2025 (Ouro): the halting distribution of PonderNet with its entropy as a
//! reward, then a second stage on the frozen model that trains the gate on whether one more
//! repetition still lowers the loss.

use super::gate::survival;
use super::policy::{HaltingPolicy, Reads, Signal, StopDistribution};
use super::ponder::stopped;

/// Stops at the first repetition at which P(stopped) >= `threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ExitGate {
    /// Probability of having stopped, 0 to 1.
    pub threshold: f32,
}

impl HaltingPolicy for ExitGate {
    fn reads(&self) -> Reads {
        Reads { output: false, gate: true }
    }

    fn stops(&self, signals: &[Signal]) -> bool {
        stopped(signals) >= self.threshold
    }

    /// The cost is the negative entropy of the distribution, which up to a constant is the KL to a
    /// uniform prior.
    fn distribution(&self, signals: &[Signal]) -> StopDistribution {
        let logits: Vec<f32> = signals.iter().filter_map(|signal| signal.gate).collect();
        let probability = survival(&logits);
        let cost = probability.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum();
        StopDistribution { probability, cost }
    }
}

/// The target of the second stage after a repetition: the probability of continuing,
/// sigmoid(k (gain - gamma)), where `gain` is the decrease of the loss by the next repetition, at
/// least 0, and k = 0.25 / gamma equals the paper's 50 at its gamma of 0.005.
#[must_use]
pub(super) fn continue_target(gain: f32, gamma: f32) -> f32 {
    super::gate::sigmoid(0.25 / gamma * (gain.max(0.0) - gamma))
}

#[cfg(test)]
mod tests {
    use super::super::policy::examples::{assert_near, gates, logit};
    use super::*;

    #[test]
    fn the_cost_is_the_negative_entropy() {
        let signals = gates(&[0.25, 0.5, 0.5].map(logit));
        let stop = ExitGate { threshold: 0.5 }.distribution(&signals);
        assert_near(&stop.probability, &[0.25, 0.375, 0.375]);
        let entropy = -(0.25 * 0.25_f32.ln() + 2.0 * 0.375 * 0.375_f32.ln());
        assert_near(&[stop.cost], &[-entropy]);
        assert_eq!(ExitGate { threshold: 0.5 }.stop(&signals), 2);
    }

    #[test]
    fn a_gain_of_gamma_is_undecided() {
        assert_near(&[continue_target(0.005, 0.005)], &[0.5]);
        // 50 (0.025 - 0.005) = 1.
        assert_near(&[continue_target(0.025, 0.005)], &[1.0 / (1.0 + (-1.0_f32).exp())]);
        assert_near(&[continue_target(-3.0, 0.005)], &[continue_target(0.0, 0.005)]);
    }
}
