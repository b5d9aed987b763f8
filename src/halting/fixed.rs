//! A token stops after as many repetitions as every other.

use super::policy::{HaltingPolicy, Signal};

/// Always `repetitions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// 1 or more.
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
        let found = Fixed { repetitions: 3 }.distribution(&signals);
        assert_near(&found.probability, &[0.0, 0.0, 1.0, 0.0]);
        assert_eq!(Fixed { repetitions: 9 }.stop(&signals), 4);
    }
}
