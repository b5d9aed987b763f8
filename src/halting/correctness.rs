//! Halting on predicted correctness: a binary head estimates whether the current output is right.
//! Jolicoeur-Martineau 2025 (TRM), whose head starts with weight 0 and bias -5.

use super::gate::sigmoid;
use super::policy::{HaltingPolicy, Reads, Signal};

/// Initial logit of the head: no output counts as right.
pub(super) const START_LOGIT: f32 = -5.0;

/// Stops when the predicted probability of a correct output is at least `threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Correctness {
    /// Probability, 0 to 1.
    pub threshold: f32,
}

impl HaltingPolicy for Correctness {
    fn reads(&self) -> Reads {
        Reads { output: false, gate: true }
    }

    fn stops(&self, signals: &[Signal]) -> bool {
        let gate = signals.last().and_then(|signal| signal.gate);
        gate.is_some_and(|gate| sigmoid(gate) >= self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::examples::{gates, logit};
    use super::*;

    #[test]
    fn the_first_output_that_is_probably_correct_stops_the_token() {
        let signals = gates(&[0.2, 0.8, 0.6].map(logit));
        assert_eq!(Correctness { threshold: 0.7 }.stop(&signals), 2);
        assert_eq!(Correctness { threshold: 0.9 }.stop(&signals), 3);
    }
}
