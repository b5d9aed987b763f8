//! A token stops when its steps stop turning, twice in a row. Pappone et al. 2025,
//! arXiv 2509.23314: the second difference of the states with two hits.

use super::policy::{HaltingPolicy, Signal};

/// Stops when two second differences in a row are at most `threshold` of the state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SecondDifference {
    /// 0 or more.
    pub threshold: f32,
}

impl HaltingPolicy for SecondDifference {
    fn stops(&self, signals: &[Signal]) -> bool {
        let hit = |signal: &Signal| signal.bend.is_some_and(|bend| bend <= self.threshold);
        signals.len() >= 3 && signals[signals.len() - 2..].iter().all(hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hit_is_an_accident_two_stop_it() {
        let signal = |bend| Signal { change: 1.0, bend, gate: None, output: None };
        let signals = [None, Some(0.1), Some(0.9), Some(0.1), Some(0.2), Some(0.1)].map(signal);
        assert_eq!(SecondDifference { threshold: 0.2 }.stop(&signals), 5);
        assert_eq!(SecondDifference { threshold: 1.0 }.stop(&signals), 3);
        assert_eq!(SecondDifference { threshold: 0.05 }.stop(&signals), 6);
    }
}
