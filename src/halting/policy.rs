//! What does a policy see, and what does it say?

/// What a student would say if a token stopped now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output {
    /// The likeliest token; of equals the first.
    pub top: u32,
    /// Probability of the likeliest token less that of the second.
    pub gap: f32,
    /// KL(what it said a repetition ago || what it says now), nats; none at the first repetition.
    pub kl: Option<f32>,
}

/// One token after one repetition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signal {
    /// |h_r - h_(r-1)| / |h_r|, h the state after a repetition; h_0 comes from the prelude.
    pub change: f32,
    /// |(h_r - h_(r-1)) - (h_(r-1) - h_(r-2))| / |h_r|; none at the first repetition.
    pub bend: Option<f32>,
    /// What the policy's gate says of the state, before the sigmoid; none without a gate.
    pub gate: Option<f32>,
    /// None unless the policy reads it: it costs the coda and the head.
    pub output: Option<Output>,
}

/// What a policy looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// What the student would say: coda, norm and head at every repetition.
    pub output: bool,
    /// A fitted gate.
    pub gate: bool,
}

/// What the probabilities of stopping average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// The states: one output of their mean. ACT.
    States,
    /// The losses: the output of the repetition at which the token stops.
    Losses,
}

/// A distribution over the repetition at which a token stops.
#[derive(Debug, Clone, PartialEq)]
pub struct StopDistribution {
    /// Of stopping after each repetition, (N); sums to one.
    pub probability: Vec<f32>,
    /// What is added to a loss: a ponder cost, a KL to a prior, or a negative entropy.
    pub cost: f32,
}

impl StopDistribution {
    /// All on repetition `stop` (from 1) of `repetitions`, free.
    #[must_use]
    pub fn at(stop: usize, repetitions: usize) -> Self {
        let probability = (1..=repetitions).map(|r| f32::from(r == stop)).collect();
        Self { probability, cost: 0.0 }
    }
}

/// When a token stops. The last repetition there is always stops it.
pub trait HaltingPolicy: Send + Sync {
    /// What it looks at.
    fn reads(&self) -> Reads {
        Reads::default()
    }

    /// What the probabilities average.
    fn mix(&self) -> Mix {
        Mix::Losses
    }

    /// Whether a token with these signals, one for each repetition so far, stops now.
    fn stops(&self, signals: &[Signal]) -> bool;

    /// Where it would stop, by all of a token's signals, (N).
    fn distribution(&self, signals: &[Signal]) -> StopDistribution {
        StopDistribution::at(self.stop(signals), signals.len())
    }

    /// The repetition, from 1, at which a token with these signals stops.
    fn stop(&self, signals: &[Signal]) -> usize {
        let count = signals.len();
        (1..count).find(|&r| self.stops(&signals[..r])).unwrap_or(count)
    }
}

#[cfg(test)]
pub(super) mod examples {
    use super::*;

    /// Signals of one kind, the rest left empty.
    pub(crate) fn gates(logits: &[f32]) -> Vec<Signal> {
        let signal = |&gate| Signal { change: 1.0, bend: None, gate: Some(gate), output: None };
        logits.iter().map(signal).collect()
    }

    pub(crate) fn outputs(outputs: &[Output]) -> Vec<Signal> {
        let signal = |&output| Signal { change: 1.0, bend: None, gate: None, output: Some(output) };
        outputs.iter().map(signal).collect()
    }

    /// ln(p / (1 - p)).
    pub(crate) fn logit(probability: f32) -> f32 {
        (probability / (1.0 - probability)).ln()
    }

    #[track_caller]
    pub(crate) fn assert_near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        }
    }
}
