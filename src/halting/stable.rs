//! Halting on a stable top-1 token. Geiping et al. 2025, 5 repetitions.

use super::policy::{HaltingPolicy, Reads, Signal};

/// Stops when the top-1 token did not change over the last `repetitions` repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stable {
    /// Repetitions without a change, 1 or more.
    pub repetitions: usize,
}

impl HaltingPolicy for Stable {
    fn reads(&self) -> Reads {
        Reads { output: true, gate: false }
    }

    fn stops(&self, signals: &[Signal]) -> bool {
        let Some(first) = signals.len().checked_sub(self.repetitions + 1) else { return false };
        let top = |signal: &Signal| signal.output.map(|output| output.top);
        let last = top(&signals[signals.len() - 1]);
        last.is_some() && signals[first..].iter().all(|signal| top(signal) == last)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Output;
    use super::super::policy::examples::outputs;
    use super::*;

    #[test]
    fn a_top_token_must_stay_for_the_given_repetitions() {
        let output = |top| Output { top, gap: 0.0, kl: None };
        let signals = outputs(&[7, 3, 3, 5, 5, 5, 5].map(output));
        assert_eq!(Stable { repetitions: 1 }.stop(&signals), 3);
        assert_eq!(Stable { repetitions: 2 }.stop(&signals), 6);
        assert_eq!(Stable { repetitions: 5 }.stop(&signals), 7);
    }
}
