//! Halting on the KL between the outputs of consecutive repetitions. Geiping et al. 2025, threshold
//! 5e-4 nats in the paper, 1e-3 in their code.

use super::policy::{HaltingPolicy, Reads, Signal};

/// Stops when KL(previous output || current output) is at most `threshold` nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kl {
    /// KL in nats, 0 or more.
    pub threshold: f32,
}

impl HaltingPolicy for Kl {
    fn reads(&self) -> Reads {
        Reads { output: true, gate: false }
    }

    fn stops(&self, signals: &[Signal]) -> bool {
        let kl = signals.last().and_then(|signal| signal.output).and_then(|output| output.kl);
        kl.is_some_and(|kl| kl <= self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Output;
    use super::super::policy::examples::outputs;
    use super::*;

    #[test]
    fn the_first_output_never_stops_a_token() {
        let output = |kl| Output { top: 0, gap: 0.0, kl };
        let signals = outputs(&[None, Some(0.3), Some(1e-3), Some(0.0)].map(output));
        assert_eq!(Kl { threshold: 1e-3 }.stop(&signals), 3);
        assert_eq!(Kl { threshold: 1.0 }.stop(&signals), 2);
    }
}
