//! The trade-off curve of a policy over its thresholds, and the point that meets a budget or a risk.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::PolicyName;
use crate::error::{Error, Result};

/// Measurements of a policy at one threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// The threshold.
    pub threshold: f64,
    /// Number of tokens that stopped after each repetition, (N).
    pub stops: Vec<u64>,
    /// Mean repetitions of a token.
    pub mean_repetitions: f64,
    /// Mean KL(teacher || student) of a token, nats.
    pub kl_nats: f64,
    /// Mean -log p of the next token, nats.
    pub nll_nats: f64,
    /// Share of tokens whose top-1 token is the teacher's.
    pub agreement: f64,
    /// Share of tokens whose top-1 token differs from that after N repetitions.
    pub changed: f64,
}

/// Measurements of a policy over its thresholds, in order of mean repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// The policy.
    pub policy: PolicyName,
    /// Mean KL(teacher || student) of a token after N repetitions, nats.
    pub full_kl_nats: f64,
    /// One point for each threshold.
    pub points: Vec<CurvePoint>,
}

/// Bound on the repetitions of a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Bound on the mean: `2.5`.
    Mean(f64),
    /// Bound on every token: `max=3`.
    Most(usize),
    /// Bound on a share of the tokens: `90%=3`.
    Quantile {
        /// Share of the tokens, 0 to 1.
        share: f64,
        /// Most repetitions of these tokens, 1 or more.
        repetitions: usize,
    },
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::input(format!("`{text}` is not a budget"))
                .hint("expected repetitions per token: 2.5 on average, max=3, or 90%=3")
        };
        let too_small = |value: f64| {
            Error::input(format!("the budget is {value} repetitions, expected 1 or more"))
                .hint("every token takes at least one repetition")
        };
        let count = |text: &str| match text.parse::<usize>() {
            Ok(0) => Err(too_small(0.0)),
            Ok(count) => Ok(count),
            Err(_) => Err(wrong()),
        };
        match text.split_once('=') {
            Some(("max", most)) => count(most).map(Self::Most),
            Some((share, repetitions)) => {
                let share = share.strip_suffix('%').and_then(|share| share.parse::<f64>().ok());
                let share = share.filter(|share| *share > 0.0 && *share <= 100.0);
                let share = share.ok_or_else(wrong)? / 100.0;
                Ok(Self::Quantile { share, repetitions: count(repetitions)? })
            }
            None => {
                let mean: f64 = text.parse().map_err(|_| wrong())?;
                if mean.is_nan() || mean < 1.0 {
                    return Err(too_small(mean));
                }
                Ok(Self::Mean(mean))
            }
        }
    }
}

/// Bound on the harm of stopping early.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Bound on the increase of the mean KL to the teacher, nats: `kl=0.01`.
    Kl(f64),
    /// Bound on the share of top-1 tokens that differ from those after N repetitions:
    /// `changed=0.01`.
    Changed(f64),
}

impl FromStr for Risk {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts =
            text.split_once('=').and_then(|(kind, bound)| Some((kind, bound.parse().ok()?)));
        match parts {
            Some(("kl", nats)) if (0.0..f64::INFINITY).contains(&nats) => Ok(Self::Kl(nats)),
            Some(("changed", share)) if (0.0..=1.0).contains(&share) => Ok(Self::Changed(share)),
            _ => Err(Error::input(format!("`{text}` is not a risk"))
                .hint("expected kl=<nats of 0 or more> or changed=<share from 0 to 1>")),
        }
    }
}

impl Curve {
    /// The point with the fewest repetitions that meets `risk`; None if no point does.
    #[must_use]
    pub fn within(&self, risk: Risk) -> Option<&CurvePoint> {
        self.points.iter().find(|point| match risk {
            Risk::Kl(nats) => point.kl_nats <= self.full_kl_nats + nats,
            Risk::Changed(share) => point.changed <= share,
        })
    }

    /// The point that meets `risk`, or else the one with the most repetitions. Even the strictest
    /// threshold of some policies stops tokens early: a margin that rounds to 1, ACT gates that sum
    /// to 1.
    ///
    /// # Errors
    /// The curve has no points.
    pub fn chosen(&self, risk: Risk) -> Result<&CurvePoint> {
        let point = self.within(risk).or(self.points.last());
        point.ok_or_else(|| Error::internal("a curve without points"))
    }

    /// The point with the most repetitions within `budget`.
    ///
    /// # Errors
    /// Every threshold exceeds the budget.
    pub fn affordable(&self, budget: Budget) -> Result<&CurvePoint> {
        let fits = |point: &&CurvePoint| match budget {
            Budget::Mean(mean) => point.mean_repetitions <= mean,
            Budget::Most(_) => true,
            Budget::Quantile { share, repetitions } => {
                let within: u64 = point.stops.iter().take(repetitions).sum();
                let all: u64 = point.stops.iter().sum();
                within as f64 >= share * all as f64
            }
        };
        self.points.iter().rev().find(fits).ok_or_else(|| {
            let least = self.points.first().map_or(0.0, |point| point.mean_repetitions);
            Error::input(format!(
                "`{}` cannot meet this budget: its loosest threshold takes {least:.2} repetitions \
                 on average",
                self.policy
            ))
            .hint("give a larger budget, or another --policy")
        })
    }

    /// The area under the share of changed top-1 tokens over the mean repetitions from 1 to N, where
    /// `first` is the share when every token stops after the first repetition. Smaller is better.
    #[must_use]
    pub fn area(&self, first: f64, repetitions: usize) -> f64 {
        let mut line: Vec<(f64, f64)> = vec![(1.0, first)];
        for point in &self.points {
            // A larger budget allows every point of a smaller one.
            let lowest = line[line.len() - 1].1;
            line.push((point.mean_repetitions, point.changed.min(lowest)));
        }
        area(&line, repetitions)
    }
}

/// The area under the piecewise linear curve through `line`, x increasing from 1 to `repetitions`.
pub(super) fn area(line: &[(f64, f64)], repetitions: usize) -> f64 {
    let Some(&(_, last)) = line.last() else { return 0.0 };
    let line: Vec<(f64, f64)> = line.iter().copied().chain([(repetitions as f64, last)]).collect();
    line.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum()
}

/// The area of the oracle, the smallest possible one: at any budget the tokens that settle first
/// stop first. `settled` is the repetition at which each token settles, counted from 1.
#[must_use]
pub fn oracle_area(settled: &[usize], repetitions: usize) -> f64 {
    let tokens = settled.len().max(1) as f64;
    let mut line = Vec::new();
    let (mut mean, mut changed) = (1.0, 1.0);
    for r in 1..=repetitions {
        let count = settled.iter().filter(|&&settled| settled == r).count() as f64 / tokens;
        mean += count * (r - 1) as f64;
        changed -= count;
        line.push((mean, f64::max(changed, 0.0)));
    }
    area(&line, repetitions)
}
