//! Halting on the top-1 margin. Schuster et al. 2022 (CALM).

use super::policy::{HaltingPolicy, Reads, Signal};

/// Stops when the probability of the top-1 token exceeds that of the second by at least `threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Gap {
    /// Difference of probabilities, 0 to 1.
    pub threshold: f32,
}

impl HaltingPolicy for Gap {
    fn reads(&self) -> Reads {
        Reads { output: true, gate: false }
    }

    fn stops(&self, signals: &[Signal]) -> bool {
        let output = signals.last().and_then(|signal| signal.output);
        output.is_some_and(|output| output.gap >= self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Output;
    use super::super::policy::examples::outputs;
    use super::*;

    #[test]
    fn a_large_margin_stops_the_token() {
        let output = |gap| Output { top: 0, gap, kl: None };
        let signals = outputs(&[0.1, 0.6, 0.9].map(output));
        assert_eq!(Gap { threshold: 0.5 }.stop(&signals), 2);
        assert_eq!(Gap { threshold: 0.0 }.stop(&signals), 1);
        assert_eq!(Gap { threshold: 1.0 }.stop(&signals), 3);
    }
}
