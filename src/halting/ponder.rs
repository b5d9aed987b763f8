//! PonderNet. Banino et al. 2021: a token stops after repetition n with probability
//! p_n = lambda_n (1 - lambda_1) .. (1 - lambda_(n-1)); the cost is KL(p || geometric prior).

use super::gate::{sigmoid, survival};
use super::policy::{HaltingPolicy, Reads, Signal, StopDistribution};

/// Default parameter of the geometric prior.
pub(crate) const PONDER_PRIOR: f32 = 0.4;

/// PonderNet. The paper samples the repetition; here a token stops at the first one at which
/// P(stopped) >= `threshold`, so that decoding is deterministic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ponder {
    /// Probability of having stopped at which a token stops, 0 to 1.
    pub threshold: f32,
    /// Parameter of the geometric prior, one over its mean, 0 to 1.
    pub prior: f32,
}

/// The geometric distribution truncated to `repetitions` and normalised, (N).
#[must_use]
pub fn geometric(prior: f32, repetitions: usize) -> Vec<f32> {
    let mut weights: Vec<f32> =
        (0..repetitions).map(|n| prior * (1.0 - prior).powi(n as i32)).collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// sum p ln(p / q), nats.
pub(super) fn divergence(p: &[f32], q: &[f32]) -> f32 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

impl HaltingPolicy for Ponder {
    fn reads(&self) -> Reads {
        Reads { output: false, gate: true }
    }

    fn stops(&self, signals: &[Signal]) -> bool {
        stopped(signals) >= self.threshold
    }

    fn distribution(&self, signals: &[Signal]) -> StopDistribution {
        let logits: Vec<f32> = signals.iter().filter_map(|signal| signal.gate).collect();
        let probability = survival(&logits);
        let cost = divergence(&probability, &geometric(self.prior, probability.len()));
        StopDistribution { probability, cost }
    }
}

/// Probability of having stopped after the last of these signals.
pub(super) fn stopped(signals: &[Signal]) -> f32 {
    let continues = signals.iter().filter_map(|signal| signal.gate).map(|gate| 1.0 - sigmoid(gate));
    1.0 - continues.product::<f32>()
}

#[cfg(test)]
mod tests {
    use super::super::policy::examples::{assert_near, gates, logit};
    use super::*;

    #[test]
    fn the_last_repetition_takes_the_remaining_probability() {
        let signals = gates(&[0.5, 0.5, 0.1].map(logit));
        let policy = Ponder { threshold: 0.7, prior: 0.5 };
        let stop = policy.distribution(&signals);
        assert_near(&stop.probability, &[0.5, 0.25, 0.25]);
        // Prior 0.5, 0.25, 0.125 over 0.875.
        let prior = [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0];
        assert_near(&geometric(0.5, 3), &prior);
        let cost = 0.5 * (0.5_f32 * 7.0 / 4.0).ln()
            + 0.25 * (0.25_f32 * 7.0 / 2.0).ln()
            + 0.25 * (0.25_f32 * 7.0).ln();
        assert_near(&[stop.cost], &[cost]);
        assert_eq!(policy.stop(&signals), 2);
        assert_eq!(Ponder { threshold: 0.4, ..policy }.stop(&signals), 1);
        assert_eq!(Ponder { threshold: 0.9, ..policy }.stop(&signals), 3);
    }
}
