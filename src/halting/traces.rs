//! Traces: measurements of every token after every repetition, from which halting policies are
//! fitted, swept and compared.

use super::curve::{Curve, CurvePoint};
use super::gate::{Gate, log_change, sigmoid};
use super::name::{PolicyName, Range};
use super::policy::{Output, Signal};
use crate::error::Result;

/// Number of thresholds of a sweep.
const THRESHOLDS: usize = 64;

/// Measurements of every token after each of the repetitions 1 to N, without early stopping;
/// (tokens, N) row by row unless said otherwise.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    /// N.
    pub repetitions: usize,
    /// D.
    pub width: usize,
    /// States after each repetition, scaled to a mean square of 1, (tokens, N, D); may be empty.
    pub states: Vec<f32>,
    /// [`Signal::change`].
    pub change: Vec<f32>,
    /// [`Signal::second_difference`].
    pub second_difference: Vec<Option<f32>>,
    /// Output of the student.
    pub output: Vec<Output>,
    /// KL(teacher || student), nats.
    pub kl: Vec<f32>,
    /// -log p of the next token, nats.
    pub nll: Vec<f32>,
    /// Whether student and teacher have the same top-1 token.
    pub agree: Vec<bool>,
    /// The full-depth reference of each token, (tokens); empty: the output after N repetitions.
    pub full: Vec<FullDepth>,
}

/// The output of a token without early stopping, with which early outputs are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FullDepth {
    /// The top-1 token.
    pub top: u32,
    /// KL(teacher || student), nats.
    pub kl: f32,
}

impl Traces {
    /// Traces of no tokens.
    #[must_use]
    pub fn new(repetitions: usize, width: usize) -> Self {
        Self { repetitions, width, ..Self::default() }
    }

    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.change.len() / self.repetitions.max(1)
    }

    /// Splits the traces before the token `first`.
    #[must_use]
    pub fn split(mut self, first: usize) -> (Self, Self) {
        let start = first * self.repetitions;
        let rest = Self {
            repetitions: self.repetitions,
            width: self.width,
            states: self.states.split_off((start * self.width).min(self.states.len())),
            change: self.change.split_off(start),
            second_difference: self.second_difference.split_off(start),
            output: self.output.split_off(start),
            kl: self.kl.split_off(start),
            nll: self.nll.split_off(start),
            agree: self.agree.split_off(start),
            full: self.full.split_off(first.min(self.full.len())),
        };
        (self, rest)
    }

    /// State of a token after repetition `r`, counted from 0, (D).
    pub(super) fn state(&self, token: usize, r: usize) -> &[f32] {
        let start = (token * self.repetitions + r) * self.width;
        &self.states[start..start + self.width]
    }

    /// The full-depth reference of a token.
    fn full_depth(&self, token: usize) -> FullDepth {
        let last = || {
            let index = (token + 1) * self.repetitions - 1;
            FullDepth { top: self.output[index].top, kl: self.kl[index] }
        };
        self.full.get(token).copied().unwrap_or_else(last)
    }

    /// These traces with the full-depth outputs of `plain` as reference: the traces of a policy that
    /// averages states are compared with those of the last states.
    #[must_use]
    pub fn relative_to(self, plain: &Self) -> Self {
        Self { full: (0..plain.tokens()).map(|token| plain.full_depth(token)).collect(), ..self }
    }

    pub(super) fn token_kl(&self, token: usize) -> &[f32] {
        &self.kl[token * self.repetitions..][..self.repetitions]
    }

    pub(super) fn token_agreement(&self, token: usize) -> &[bool] {
        &self.agree[token * self.repetitions..][..self.repetitions]
    }

    /// Logits of `gate` for a token after each repetition, (N).
    pub(super) fn logits(&self, gate: &Gate, token: usize) -> Vec<f32> {
        let logit = |r: usize| {
            let projection: f32 =
                self.state(token, r).iter().zip(&gate.weight).map(|(x, w)| x * w).sum();
            let change = log_change(self.change[token * self.repetitions + r]);
            projection + gate.change * change + gate.bias_at(r + 1)
        };
        (0..self.repetitions).map(logit).collect()
    }

    /// The signals of a token that a policy reads, (N).
    #[must_use]
    pub fn signals(&self, token: usize, gate: Option<&Gate>) -> Vec<Signal> {
        let logits = gate.map(|gate| self.logits(gate, token));
        let signal = |r: usize| {
            let index = token * self.repetitions + r;
            Signal {
                change: self.change[index],
                second_difference: self.second_difference[index],
                gate: logits.as_ref().map(|logits| logits[r]),
                output: Some(self.output[index]),
            }
        };
        (0..self.repetitions).map(signal).collect()
    }

    /// The measurements when each token stops after repetition `stop(token)`, counted from 1.
    #[must_use]
    pub fn outcome(&self, threshold: f64, stop: impl Fn(usize) -> usize) -> CurvePoint {
        let mut point = CurvePoint { threshold, ..CurvePoint::default() };
        point.stops = vec![0; self.repetitions];
        for token in 0..self.tokens() {
            let stop = stop(token);
            let index = token * self.repetitions + stop - 1;
            let changed = self.output[index].top != self.full_depth(token).top;
            point.stops[stop - 1] += 1;
            point.mean_repetitions += stop as f64;
            point.kl_nats += f64::from(self.kl[index]);
            point.nll_nats += f64::from(self.nll[index]);
            point.agreement += f64::from(u8::from(self.agree[index]));
            point.changed += f64::from(u8::from(changed));
        }
        let tokens = self.tokens().max(1) as f64;
        for sum in [
            &mut point.mean_repetitions,
            &mut point.kl_nats,
            &mut point.nll_nats,
            &mut point.agreement,
            &mut point.changed,
        ] {
            *sum /= tokens;
        }
        point
    }

    /// The curve of `policy` over its thresholds, in order of mean repetitions.
    ///
    /// # Errors
    /// A threshold is out of the policy's range.
    pub fn sweep(&self, policy: PolicyName, gate: Option<&Gate>) -> Result<Curve> {
        let signals: Vec<Vec<Signal>> =
            (0..self.tokens()).map(|token| self.signals(token, gate)).collect();
        let mut points = Vec::new();
        for threshold in self.thresholds(policy, &signals) {
            let rule = policy.with(threshold)?;
            points.push(self.outcome(threshold, |token| rule.stop(&signals[token])));
        }
        points.sort_by(|a, b| a.mean_repetitions.total_cmp(&b.mean_repetitions));
        points.dedup_by(|b, a| a.stops == b.stops);
        let tokens = self.tokens();
        let full_kl: f64 = (0..tokens).map(|token| f64::from(self.full_depth(token).kl)).sum();
        Ok(Curve { policy, full_kl_nats: full_kl / tokens.max(1) as f64, points })
    }

    /// Thresholds of a sweep: quantiles of the scores that are compared with them, and the strictest
    /// one.
    fn thresholds(&self, policy: PolicyName, signals: &[Vec<Signal>]) -> Vec<f64> {
        if policy.range() == Range::Count {
            return (1..=self.repetitions).map(|count| count as f64).collect();
        }
        let last = self.repetitions.saturating_sub(1);
        let mut scores: Vec<f32> = signals
            .iter()
            .flat_map(|signals| (1..=last).filter_map(|r| score(policy, &signals[..r])))
            .collect();
        scores.sort_unstable_by(f32::total_cmp);
        let mut thresholds: Vec<f64> = (0..THRESHOLDS)
            .filter_map(|i| scores.get(i * scores.len().saturating_sub(1) / (THRESHOLDS - 1)))
            .map(|&score| f64::from(score))
            .filter(|&threshold| policy.with(threshold).is_ok())
            .collect();
        thresholds.push(if policy.rises() { 0.0 } else { 1.0 });
        thresholds.sort_unstable_by(f64::total_cmp);
        thresholds.dedup();
        thresholds
    }

    /// The repetition, counted from 1, from which the top-1 token of each token no longer changes,
    /// (tokens).
    #[must_use]
    pub fn settled(&self) -> Vec<usize> {
        let settled = |outputs: &[Output]| {
            let last = outputs[outputs.len() - 1].top;
            let changed = outputs.iter().rposition(|output| output.top != last);
            changed.map_or(1, |index| index + 2)
        };
        self.output.chunks_exact(self.repetitions.max(1)).map(settled).collect()
    }

    /// The oracle: each token stops as soon as its top-1 token no longer changes.
    #[must_use]
    pub fn oracle(&self) -> CurvePoint {
        let settled = self.settled();
        self.outcome(0.0, |token| settled[token])
    }
}

/// The score that a policy compares with its threshold.
fn score(policy: PolicyName, signals: &[Signal]) -> Option<f32> {
    let last = signals.last()?;
    match policy {
        PolicyName::Act => {
            Some(signals.iter().filter_map(|s| s.gate).map(sigmoid).sum::<f32>().min(1.0))
        }
        PolicyName::Ponder | PolicyName::ExitGate => Some(super::ponder::stopped(signals)),
        PolicyName::Correctness => last.gate.map(sigmoid),
        PolicyName::Kl => last.output?.kl,
        PolicyName::Change => Some(last.change),
        PolicyName::SecondDifference => {
            let previous = &signals[signals.len().checked_sub(2)?];
            Some(last.second_difference?.max(previous.second_difference?))
        }
        PolicyName::Gap => Some(last.output?.gap),
        PolicyName::Fixed | PolicyName::Stable => None,
    }
}

#[cfg(test)]
pub(super) mod examples {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Traces whose tokens need one repetition or three, as the sign of their first dimension tells.
    pub(crate) fn easy_and_hard(tokens: usize, seed: u64) -> Traces {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let repetitions = 4;
        let mut traces = Traces::new(repetitions, 3);
        for _ in 0..tokens {
            let hard = rng.random::<bool>();
            for r in 0..repetitions {
                let done = r >= if hard { 2 } else { 0 };
                let noise: f32 = rng.random_range(-0.1..0.1);
                traces.states.extend([if hard { 1.0 } else { -1.0 }, noise, r as f32 - 1.5]);
                traces.change.push(if done { 0.01 } else { 1.0 });
                traces.second_difference.push(None);
                traces.output.push(Output {
                    top: u32::from(done),
                    gap: if done { 0.9 } else { 0.1 },
                    kl: (r > 0).then_some(if r >= 3 || (done && !hard) { 0.0 } else { 1.0 }),
                });
                traces.kl.push(if done { 0.1 } else { 2.0 });
                traces.nll.push(if done { 1.0 } else { 3.0 });
                traces.agree.push(done);
            }
        }
        traces
    }
}

#[cfg(test)]
mod tests {
    use super::examples::easy_and_hard;
    use super::*;

    #[test]
    fn the_oracle_stops_where_the_answer_settles() {
        let traces = easy_and_hard(200, 3);
        let (hard, easy): (Vec<_>, Vec<_>) = traces.settled().into_iter().partition(|&r| r > 1);
        assert!(hard.iter().all(|&r| r == 3) && !easy.is_empty());
        let point = traces.oracle();
        let mean = (3 * hard.len() + easy.len()) as f64 / 200.0;
        assert!((point.mean_repetitions - mean).abs() < 1e-12);
        assert!(point.changed.abs() < 1e-12 && (point.agreement - 1.0).abs() < 1e-12);
        assert_eq!(point.stops, [easy.len() as u64, 0, hard.len() as u64, 0]);
    }

    #[test]
    fn a_sweep_goes_from_few_repetitions_to_all() {
        let traces = easy_and_hard(200, 3);
        for policy in [PolicyName::Fixed, PolicyName::Change, PolicyName::Gap, PolicyName::Kl] {
            let points = traces.sweep(policy, None).unwrap().points;
            let means: Vec<f64> = points.iter().map(|point| point.mean_repetitions).collect();
            assert!(means.is_sorted() && points.len() >= 2, "{policy}: {means:?}");
            assert!(points.iter().all(|point| point.stops.iter().sum::<u64>() == 200));
        }
        // A signal that separates easy from hard tokens is as good as the oracle.
        let oracle = traces.oracle();
        let gap = traces.sweep(PolicyName::Gap, None).unwrap();
        let near = |p: &CurvePoint| (p.mean_repetitions - oracle.mean_repetitions).abs() < 1e-9;
        assert!(gap.points.iter().any(|point| near(point) && point.changed == 0.0));
    }

    #[test]
    fn a_split_keeps_every_token() {
        let traces = easy_and_hard(30, 1);
        let (first, second) = traces.clone().split(12);
        assert_eq!((first.tokens(), second.tokens()), (12, 18));
        assert_eq!(second.signals(3, None), traces.signals(15, None));
        assert_eq!(second.state(0, 1), traces.state(12, 1));
    }
}
