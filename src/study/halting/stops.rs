//! The repetition at which each policy stops, by the length of the chain.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fit::rank_correlation;
use crate::halting::{Calibration, Gate, Traces};

/// When the asked places of test examples stop. Each place counts by itself, as tokens do
/// everywhere: the bits of a circuit settle one by one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exits {
    /// N.
    pub repetitions: usize,
    /// What fixed numbers of repetitions give, length by length.
    pub lengths: Vec<AtLength>,
    /// What rules give: all repetitions, as many as the chain has steps, the oracle, policies.
    pub rules: Vec<Rule>,
    /// Numbers in the block.
    pub block_parameters: usize,
    /// The last loss of the training.
    pub loss: f64,
}

/// Chains of one length.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AtLength {
    /// Steps.
    pub length: usize,
    /// Places that were asked.
    pub places: usize,
    /// Share of them that is answered right after each repetition, (N).
    pub right: Vec<f64>,
}

/// What stopping by a rule gives, other tokens going on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What it is called: a policy, or `all repetitions`, `length of the chain`, `oracle`.
    pub name: String,
    /// Of a policy.
    pub threshold: Option<f64>,
    /// Over all places.
    pub mean_repetitions: f64,
    /// Share of places answered right.
    pub right: f64,
    /// Share of places with another answer than at N.
    pub changed: f64,
    /// Mean repetition at which places stop, for each of the lengths.
    pub stops: Vec<f64>,
    /// Spearman's, of the repetition at which a place stops with the length of its chain; none where
    /// all stop together.
    pub rank_correlation: Option<f64>,
}

impl Exits {
    /// Of `traces` whose places belong to chains of `lengths`, (tokens), under every one of
    /// `policies`; `averaged` looks at the same places again, stopping with the mean of their states by
    /// a gate.
    ///
    /// # Errors
    /// There are more or fewer lengths than places, a threshold lies outside its range, or looking
    /// again fails.
    pub fn of(
        traces: &Traces,
        averaged: &dyn Fn(&Gate) -> Result<Traces>,
        lengths: &[usize],
        policies: &[Calibration],
    ) -> Result<Self> {
        if lengths.len() != traces.tokens() || lengths.is_empty() {
            let (places, lengths) = (traces.tokens(), lengths.len());
            return Err(Error::internal(format!("{lengths} lengths for {places} places")));
        }
        let mut kinds = lengths.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        let all = traces.repetitions;
        let rule = |traces: &Traces, name: &str, threshold: Option<f64>, stops: &[usize]| {
            let outcome = traces.outcome(threshold.unwrap_or_default(), |token| stops[token]);
            let (x, y): (Vec<f64>, Vec<f64>) = stops
                .iter()
                .zip(lengths)
                .map(|(&stop, &length)| (stop as f64, length as f64))
                .unzip();
            Rule {
                name: name.to_owned(),
                threshold,
                mean_repetitions: outcome.mean_repetitions,
                right: outcome.agreement,
                changed: outcome.changed,
                stops: kinds.iter().map(|&kind| mean_where(&x, lengths, kind)).collect(),
                rank_correlation: rank_correlation(&x, &y),
            }
        };
        let known: Vec<usize> = lengths.iter().map(|&length| length.min(all)).collect();
        let mut rules = vec![
            rule(traces, "all repetitions", None, &vec![all; lengths.len()]),
            rule(traces, "length of the chain", None, &known),
            rule(traces, "oracle", None, &traces.settled()),
        ];
        for found in policies {
            let (policy, threshold) = found.policy(None)?;
            let gate = found.gate.as_ref();
            let stop = |token| policy.stop(&traces.signals(token, gate));
            let stops: Vec<usize> = (0..lengths.len()).map(stop).collect();
            let by = gate.filter(|_| found.curve.policy.averages());
            let means = by.map(averaged).transpose()?.map(|means| means.relative_to(traces));
            let traces = means.as_ref().unwrap_or(traces);
            rules.push(rule(traces, found.curve.policy.name(), Some(threshold), &stops));
        }
        let lengths = kinds.iter().map(|&kind| at_length(traces, lengths, kind)).collect();
        Ok(Self { repetitions: all, lengths, rules, ..Self::default() })
    }

    /// Means of `runs`, which differ in nothing but their seeds; empty of none.
    #[must_use]
    pub fn mean(runs: &[Self]) -> Self {
        let Some(first) = runs.first() else { return Self::default() };
        let mut mean = first.clone();
        let each = |of: &dyn Fn(&Self) -> Option<f64>| average(runs.iter().filter_map(of));
        for (at, length) in mean.lengths.iter_mut().enumerate() {
            for (r, right) in length.right.iter_mut().enumerate() {
                *right = each(&|run| run.lengths[at].right.get(r).copied()).unwrap_or_default();
            }
        }
        for (at, rule) in mean.rules.iter_mut().enumerate() {
            let of = |part: &dyn Fn(&Rule) -> f64| {
                each(&|run| run.rules.get(at).map(part)).unwrap_or_default()
            };
            rule.threshold = each(&|run| run.rules[at].threshold);
            rule.mean_repetitions = of(&|rule| rule.mean_repetitions);
            (rule.right, rule.changed) = (of(&|rule| rule.right), of(&|rule| rule.changed));
            for (kind, stop) in rule.stops.iter_mut().enumerate() {
                *stop = of(&|rule| rule.stops[kind]);
            }
            rule.rank_correlation = each(&|run| run.rules[at].rank_correlation);
        }
        mean.loss = each(&|run| Some(run.loss)).unwrap_or_default();
        mean
    }
}

fn at_length(traces: &Traces, lengths: &[usize], kind: usize) -> AtLength {
    let places: Vec<usize> = (0..lengths.len()).filter(|&place| lengths[place] == kind).collect();
    let right = |r: usize| {
        let right = places.iter().filter(|&&place| traces.agree[place * traces.repetitions + r]);
        right.count() as f64 / places.len() as f64
    };
    let right = (0..traces.repetitions).map(right).collect();
    AtLength { length: kind, places: places.len(), right }
}

fn mean_where(values: &[f64], lengths: &[usize], kind: usize) -> f64 {
    let of_kind = values.iter().zip(lengths).filter(|(_, length)| **length == kind);
    average(of_kind.map(|(value, _)| *value)).unwrap_or_default()
}

/// None of none.
fn average(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
