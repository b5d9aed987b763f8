//! Halting on the second difference of the states, twice in a row. Pappone et al. 2025,
//! arXiv 2509.23314.

use super::policy::{HaltingPolicy, Signal};

/// Stops when two consecutive second differences are at most `threshold`, relative to the state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SecondDifference {
    /// Relative second difference, 0 or more.
    pub threshold: f32,
}

impl HaltingPolicy for SecondDifference {
    fn stops(&self, signals: &[Signal]) -> bool {
        let hit = |signal: &Signal| {
            signal
                .second_difference
                .is_some_and(|second_difference| second_difference <= self.threshold)
        };
        signals.len() >= 3 && signals[signals.len() - 2..].iter().all(hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hits_in_a_row_stop_the_token() {
        let signal =
            |second_difference| Signal { change: 1.0, second_difference, gate: None, output: None };
        let signals = [None, Some(0.1), Some(0.9), Some(0.1), Some(0.2), Some(0.1)].map(signal);
        assert_eq!(SecondDifference { threshold: 0.2 }.stop(&signals), 5);
        assert_eq!(SecondDifference { threshold: 1.0 }.stop(&signals), 3);
        assert_eq!(SecondDifference { threshold: 0.05 }.stop(&signals), 6);
    }
}
