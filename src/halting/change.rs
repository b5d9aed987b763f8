//! Halting on the relative change of the state. Geiping et al. 2025, threshold 0.03.

use super::policy::{HaltingPolicy, Signal};

/// Stops at a relative change of the state of at most `threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// Relative change, 0 or more.
    pub threshold: f32,
}

impl HaltingPolicy for Change {
    fn stops(&self, signals: &[Signal]) -> bool {
        signals.last().is_some_and(|signal| signal.change <= self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_small_change_stops_the_token() {
        let signal = |change| Signal { change, second_difference: None, gate: None, output: None };
        let signals = [0.5, 0.2, 0.02, 0.3].map(signal);
        assert_eq!(Change { threshold: 0.03 }.stop(&signals), 3);
        assert_eq!(Change { threshold: 0.2 }.stop(&signals), 2);
        assert_eq!(Change { threshold: 0.0 }.stop(&signals), 4);
    }
}
