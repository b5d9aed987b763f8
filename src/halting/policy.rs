//! The interface of halting policies: the signals they read and the distribution they give.

/// The student's output if a token stopped now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output {
    /// The top-1 token; of equals the first.
    pub top: u32,
    /// Top-1 margin: probability of the top-1 token minus that of the second.
    pub gap: f32,
    /// KL(previous output || current output), nats; None after the first repetition.
    pub kl: Option<f32>,
}

/// The signals of one token after one repetition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signal {
    /// |h_r - h_(r-1)| / |h_r|, h the state after a repetition; h_0 comes from the prelude.
    pub change: f32,
    /// |(h_r - h_(r-1)) - (h_(r-1) - h_(r-2))| / |h_r|; None after the first repetition.
    pub second_difference: Option<f32>,
    /// Logit of the policy's gate; None without a gate.
    pub gate: Option<f32>,
    /// The output; None unless the policy reads it, because it costs the coda and the head.
    pub output: Option<Output>,
}

/// The signals that a policy reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// The student's output, which costs coda, norm and head after every repetition.
    pub output: bool,
    /// The logit of a gate.
    pub gate: bool,
}

/// What the halting distribution averages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// States: the output is that of the mean of the states. ACT.
    States,
    /// Losses: the output is that of the repetition at which the token stops.
    Losses,
}

/// A distribution over the repetition at which a token stops.
#[derive(Debug, Clone, PartialEq)]
pub struct StopDistribution {
    /// Probability of stopping after each repetition, (N); sums to one.
    pub probability: Vec<f32>,
    /// Cost in the loss of the policy: ponder cost, KL to a prior, or negative entropy.
    pub cost: f32,
}

impl StopDistribution {
    /// All probability on repetition `stop`, counted from 1, of `repetitions`, at no cost.
    #[must_use]
    pub fn at(stop: usize, repetitions: usize) -> Self {
        let probability = (1..=repetitions).map(|r| f32::from(r == stop)).collect();
        Self { probability, cost: 0.0 }
    }
}

/// A halting policy. Every token stops after the last repetition at the latest.
pub trait HaltingPolicy: Send + Sync {
    /// The signals that the policy reads.
    fn reads(&self) -> Reads {
        Reads::default()
    }

    /// What the halting distribution averages.
    fn mix(&self) -> Mix {
        Mix::Losses
    }

    /// Whether a token with these signals, one for each repetition so far, stops now.
    fn stops(&self, signals: &[Signal]) -> bool;

    /// The distribution over the repetitions of a token with these signals, (N).
    fn distribution(&self, signals: &[Signal]) -> StopDistribution {
        StopDistribution::at(self.stop(signals), signals.len())
    }

    /// The repetition, counted from 1, after which a token with these signals, (N), stops.
    fn stop(&self, signals: &[Signal]) -> usize {
        let count = signals.len();
        (1..count).find(|&r| self.stops(&signals[..r])).unwrap_or(count)
    }
}

#[cfg(test)]
pub(super) mod examples {
    use super::*;

    /// Signals with gate logits only.
    pub(crate) fn gates(logits: &[f32]) -> Vec<Signal> {
        let signal =
            |&gate| Signal { change: 1.0, second_difference: None, gate: Some(gate), output: None };
        logits.iter().map(signal).collect()
    }

    pub(crate) fn outputs(outputs: &[Output]) -> Vec<Signal> {
        let signal = |&output| Signal {
            change: 1.0,
            second_difference: None,
            gate: None,
            output: Some(output),
        };
        outputs.iter().map(signal).collect()
    }

    /// ln(p / (1 - p)).
    pub(crate) fn logit(probability: f32) -> f32 {
        (probability / (1.0 - probability)).ln()
    }

    #[track_caller]
    pub(crate) fn assert_near(actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-5, "{actual} is not {expected}");
        }
    }
}
