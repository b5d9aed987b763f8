//! A token stops when its answer is probably the right one. Jolicoeur-Martineau 2025 (TRM): one
//! binary head, weight 0 and bias -5 at first, which is a value that a search can use, too.

use super::gate::sigmoid;
use super::policy::{HaltingPolicy, Reads, Signal};

/// What the head starts as: nothing is right yet.
pub const START_LOGIT: f32 = -5.0;

/// Stops when P(the answer is right) is at least `threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correctness {
    /// 0 to 1.
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
    fn the_first_answer_that_is_probably_right_stops_it() {
        let signals = gates(&[0.2, 0.8, 0.6].map(logit));
        assert_eq!(Correctness { threshold: 0.7 }.stop(&signals), 2);
        assert_eq!(Correctness { threshold: 0.9 }.stop(&signals), 3);
    }
}
