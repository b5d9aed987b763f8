//! A token stops when its gates have spent what it was given. Graves 2016, adaptive computation
//! time: h_t = sigmoid(gate), it stops at N = min { n : h_1 + .. + h_n >= 1 - eps }, its state is
//! the mean of the states weighed by h_t, the last by the remainder R = 1 - (h_1 + .. + h_(N-1)),
//! and N + R is its cost.

use super::gate::sigmoid;
use super::policy::{HaltingPolicy, Mix, Reads, Signal, StopDistribution};

/// What a gate starts as: about 0.05, deep. Graves starts at +1, shallow, and finds it hard to
/// leave.
pub const START_LOGIT: f32 = -3.0;

/// 1 - eps while a gate learns. Graves 2016 takes eps = 0.01.
pub const SPENT: f32 = 0.99;

/// The repetition, from 1, at which a token stops whose gates say `logits`, (N): none is asked at the
/// last.
#[must_use]
pub fn stop(logits: &[f32], threshold: f32) -> usize {
    let mut sum = 0.0;
    let spent = logits.iter().position(|&logit| {
        sum += sigmoid(logit);
        sum >= threshold
    });
    spent.map_or(logits.len(), |index| index + 1)
}

/// A token's states so far, weighed by what its gates said, and the weight that is left.
#[derive(Debug, Clone, PartialEq)]
pub struct Mean {
    sum: Vec<f32>,
    left: f32,
}

impl Mean {
    /// Of no states yet, (D) each.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { sum: vec![0.0; width], left: 1.0 }
    }

    /// What comes out if the token stops with `state`, (D), which takes what is left.
    #[must_use]
    pub fn stopped(&self, state: &[f32]) -> Vec<f32> {
        self.sum.iter().zip(state).map(|(sum, state)| sum + self.left * state).collect()
    }

    /// Takes the `state`, (D), of a token that goes on, whose gate says `logit`.
    pub fn goes_on(&mut self, state: &[f32], logit: f32) {
        let weight = sigmoid(logit);
        self.left -= weight;
        self.sum.iter_mut().zip(state).for_each(|(sum, state)| *sum += weight * state);
    }
}

/// Adaptive computation time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Act {
    /// 1 - eps: what the gates must add up to, above 0 and up to 1.
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
        let mut left = 1.0;
        for (probability, signal) in probability.iter_mut().zip(&signals[..stop - 1]) {
            *probability = sigmoid(signal.gate.unwrap_or_default());
            left -= *probability;
        }
        probability[stop - 1] = left;
        StopDistribution { probability, cost: stop as f32 + left }
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::examples::{assert_near, gates, logit};
    use super::*;

    #[test]
    fn the_remainder_goes_to_the_repetition_that_stops() {
        let signals = gates(&[0.2, 0.5, 0.4, 0.9].map(logit));
        let found = Act { threshold: 0.99 }.distribution(&signals);
        // 0.2 + 0.5 + 0.4 = 1.1 >= 0.99: N = 3, R = 1 - 0.7.
        assert_near(&found.probability, &[0.2, 0.5, 0.3, 0.0]);
        assert_near(&[found.cost], &[3.3]);
    }

    #[test]
    fn a_mean_weighs_states_as_the_distribution_says() {
        let mut mean = Mean::new(2);
        mean.goes_on(&[10.0, 0.0], logit(0.2));
        assert_near(&mean.stopped(&[0.0, 1.0]), &[2.0, 0.8]);
        mean.goes_on(&[0.0, 1.0], logit(0.5));
        assert_near(&mean.stopped(&[1.0, 1.0]), &[2.3, 0.8]);
    }

    #[test]
    fn gates_stop_where_they_have_spent_all() {
        let gates = [0.2, 0.5, 0.4, 0.9].map(logit);
        assert_eq!(stop(&gates, SPENT), 3);
        assert_eq!(stop(&gates[..2], SPENT), 2);
        assert_eq!(stop(&gates, 0.1), 1);
    }

    #[test]
    fn the_last_repetition_takes_what_is_left() {
        let signals = gates(&[0.1, 0.1].map(logit));
        let found = Act { threshold: 0.99 }.distribution(&signals);
        assert_near(&found.probability, &[0.1, 0.9]);
        assert_near(&[found.cost], &[2.9]);
    }
}
