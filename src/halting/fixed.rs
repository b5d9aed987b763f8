//! The same number of repetitions for every token.

use super::policy::{HaltingPolicy, Signal};

/// Stops every token after `repetitions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed {
    /// Number of repetitions, 1 or more.
    pub repetitions: usize,
}

impl HaltingPolicy for Fixed {
    fn stops(&self, signals: &[Signal]) -> bool {
        signals.len() >= self.repetitions
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::examples::{assert_near, gates};
    use super::*;

    #[test]
    fn all_of_the_distribution_is_on_one_repetition() {
        let signals = gates(&[0.0; 4]);
        let stop = Fixed { repetitions: 3 }.distribution(&signals);
        assert_near(&stop.probability, &[0.0, 0.0, 1.0, 0.0]);
        assert_eq!(Fixed { repetitions: 9 }.stop(&signals), 4);
    }
}
