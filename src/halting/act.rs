//! Adaptive computation time. Graves 2016: h_t = sigmoid(gate), a token stops at
//! N = min { n : h_1 + .. + h_n >= 1 - eps }, its state is the mean of the states weighted by h_t,
//! the last by the remainder R = 1 - (h_1 + .. + h_(N-1)), and its cost is N + R.

use super::gate::sigmoid;
use super::policy::{HaltingPolicy, Mix, Reads, Signal, StopDistribution};

/// Initial logit of a gate, a probability of about 0.05: tokens stop late. Graves starts at +1,
/// where tokens stop early, and reports that this is hard to unlearn.
pub(super) const START_LOGIT: f32 = -3.0;

/// 1 - eps while a gate is trained. Graves 2016, eps = 0.01.
pub(crate) const ACT_THRESHOLD: f32 = 0.99;

/// The repetition, counted from 1, at which a token with the gate logits `logits`, (N), stops. The
/// last logit is not used.
#[must_use]
pub(crate) fn act_stop(logits: &[f32], threshold: f32) -> usize {
    let mut sum = 0.0;
    let stop = logits.iter().position(|&logit| {
        sum += sigmoid(logit);
        sum >= threshold
    });
    stop.map_or(logits.len(), |index| index + 1)
}

/// The running mean of a token's states, weighted by its gates, and the remaining weight.
#[derive(Debug, Clone, PartialEq)]
pub struct ActMean {
    sum: Vec<f32>,
    remainder: f32,
}

impl ActMean {
    /// The mean of no states, of width D.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { sum: vec![0.0; width], remainder: 1.0 }
    }

    /// The mean, (D), if the token stops with `state`, (D), which takes the remaining weight.
    #[must_use]
    pub fn stop_with(&self, state: &[f32]) -> Vec<f32> {
        self.sum.iter().zip(state).map(|(sum, state)| sum + self.remainder * state).collect()
    }

    /// Adds the `state`, (D), of a token that does not stop, with the gate logit `logit`.
    pub fn add(&mut self, state: &[f32], logit: f32) {
        let weight = sigmoid(logit);
        self.remainder -= weight;
        self.sum.iter_mut().zip(state).for_each(|(sum, state)| *sum += weight * state);
    }
}

/// Adaptive computation time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Act {
    /// 1 - eps, the sum of gates at which a token stops, above 0 and up to 1.
    pub threshold: f32,
}

impl HaltingPolicy for Act {
    fn reads(&self) -> Reads {
        Reads { output: false, gate: true }
    }

    fn mix(&self) -> Mix {
        Mix::States
    }

    fn stops(&self, signals: &[Signal]) -> bool {
        let sum: f32 = signals.iter().filter_map(|signal| signal.gate).map(sigmoid).sum();
        sum >= self.threshold
    }

    fn distribution(&self, signals: &[Signal]) -> StopDistribution {
        let stop = self.stop(signals);
        let mut probability = vec![0.0; signals.len()];
        let mut remainder = 1.0;
        for (probability, signal) in probability.iter_mut().zip(&signals[..stop - 1]) {
            *probability = sigmoid(signal.gate.unwrap_or_default());
            remainder -= *probability;
        }
        probability[stop - 1] = remainder;
        StopDistribution { probability, cost: stop as f32 + remainder }
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::examples::{assert_near, gates, logit};
    use super::*;

    #[test]
    fn the_remainder_goes_to_the_repetition_that_stops() {
        let signals = gates(&[0.2, 0.5, 0.4, 0.9].map(logit));
        let stop = Act { threshold: 0.99 }.distribution(&signals);
        // 0.2 + 0.5 + 0.4 = 1.1 >= 0.99: N = 3, R = 1 - 0.7.
        assert_near(&stop.probability, &[0.2, 0.5, 0.3, 0.0]);
        assert_near(&[stop.cost], &[3.3]);
    }

    #[test]
    fn a_running_mean_weights_states_as_the_distribution_does() {
        let mut mean = ActMean::new(2);
        mean.add(&[10.0, 0.0], logit(0.2));
        assert_near(&mean.stop_with(&[0.0, 1.0]), &[2.0, 0.8]);
        mean.add(&[0.0, 1.0], logit(0.5));
        assert_near(&mean.stop_with(&[1.0, 1.0]), &[2.3, 0.8]);
    }

    #[test]
    fn gates_stop_a_token_where_their_sum_reaches_the_threshold() {
        let gates = [0.2, 0.5, 0.4, 0.9].map(logit);
        assert_eq!(act_stop(&gates, ACT_THRESHOLD), 3);
        assert_eq!(act_stop(&gates[..2], ACT_THRESHOLD), 2);
        assert_eq!(act_stop(&gates, 0.1), 1);
    }

    #[test]
    fn the_last_repetition_takes_the_remainder() {
        let signals = gates(&[0.1, 0.1].map(logit));
        let stop = Act { threshold: 0.99 }.distribution(&signals);
        assert_near(&stop.probability, &[0.1, 0.9]);
        assert_near(&[stop.cost], &[2.9]);
    }
}
