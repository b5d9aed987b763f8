//! What a policy costs and loses at each threshold, and which of them keeps a budget or a risk.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::PolicyName;
use crate::error::{Error, Result};

/// What a policy gave at one threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// The threshold.
    pub threshold: f64,
    /// Tokens that stopped after each repetition, (N).
    pub stops: Vec<u64>,
    /// Mean repetitions of a token.
    pub mean_repetitions: f64,
    /// KL(teacher || student) per token.
    pub kl_nats: f64,
    /// -log p of the next token, per token.
    pub nll_nats: f64,
    /// Share of tokens with the teacher's answer.
    pub agreement: f64,
    /// Share of tokens with another answer than at N repetitions.
    pub changed: f64,
}

/// What a policy gave at many thresholds, mean repetitions rising.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// The policy.
    pub policy: PolicyName,
    /// KL(teacher || student) per token when nothing stops early.
    pub full_kl_nats: f64,
    /// One point a threshold.
    pub points: Vec<CurvePoint>,
}

/// How much a token may cost, in repetitions of the core.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// On average: `2.5`.
    Mean(f64),
    /// Never more: `max=3`.
    Most(usize),
    /// A share of the tokens takes at most so many: `90%=3`.
    Quantile {
        /// 0 to 1.
        share: f64,
        /// 1 or more.
        repetitions: usize,
    },
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::input(format!("`{text}` is no budget"))
                .hint("expected repetitions per token: 2.5 on average, max=3, or 90%=3")
        };
        let low = |found: f64| {
            Error::input(format!("a budget of {found} repetitions: expected 1 or more"))
                .hint("every token takes one repetition at least")
        };
        let whole = |text: &str| match text.parse::<usize>() {
            Ok(0) => Err(low(0.0)),
            Ok(count) => Ok(count),
            Err(_) => Err(wrong()),
        };
        match text.split_once('=') {
            Some(("max", most)) => whole(most).map(Self::Most),
            Some((share, repetitions)) => {
                let share = share.strip_suffix('%').and_then(|share| share.parse::<f64>().ok());
                let share = share.filter(|share| *share > 0.0 && *share <= 100.0);
                let share = share.ok_or_else(wrong)? / 100.0;
                Ok(Self::Quantile { share, repetitions: whole(repetitions)? })
            }
            None => {
                let mean: f64 = text.parse().map_err(|_| wrong())?;
                if mean.is_nan() || mean < 1.0 {
                    return Err(low(mean));
                }
                Ok(Self::Mean(mean))
            }
        }
    }
}

/// What stopping early may cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// The mean KL to the teacher may rise by so many nats: `kl=0.01`.
    Kl(f64),
    /// So many of the answers may differ from those at N repetitions: `changed=0.01`.
    Changed(f64),
}

impl FromStr for Risk {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('=').and_then(|(kind, by)| Some((kind, by.parse().ok()?)));
        match parts {
            Some(("kl", nats)) if (0.0..f64::INFINITY).contains(&nats) => Ok(Self::Kl(nats)),
            Some(("changed", share)) if (0.0..=1.0).contains(&share) => Ok(Self::Changed(share)),
            _ => Err(Error::input(format!("`{text}` is no risk"))
                .hint("expected kl=<nats of 0 or more> or changed=<share from 0 to 1>")),
        }
    }
}

impl Curve {
    /// The point that takes the fewest repetitions and keeps `risk`; none when none does.
    #[must_use]
    pub fn within(&self, risk: Risk) -> Option<&CurvePoint> {
        self.points.iter().find(|point| match risk {
            Risk::Kl(nats) => point.kl_nats <= self.full_kl_nats + nats,
            Risk::Changed(share) => point.changed <= share,
        })
    }

    /// The point that keeps `risk`, or else the one that takes the most repetitions. Some rules stop
    /// tokens early at their strictest: a lead that rounds to 1, an ACT that has spent all.
    ///
    /// # Errors
    /// It has no points.
    pub fn chosen(&self, risk: Risk) -> Result<&CurvePoint> {
        let point = self.within(risk).or(self.points.last());
        point.ok_or_else(|| Error::internal("a curve without points"))
    }

    /// The point that uses most of `budget` without going past it.
    ///
    /// # Errors
    /// Every threshold there is takes more.
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
                "`{}` cannot keep this budget: at its loosest threshold it takes {least:.2} \
                 repetitions on average",
                self.policy
            ))
            .hint("give a larger budget, or another --policy")
        })
    }

    /// How often an answer differs from that at N repetitions, over the mean repetitions from 1 to
    /// N: the area under it, from `first`, the share when every token stops at the first one.
    /// Smaller is better.
    #[must_use]
    pub fn area(&self, first: f64, repetitions: usize) -> f64 {
        let mut line: Vec<(f64, f64)> = vec![(1.0, first)];
        for point in &self.points {
            // What a larger budget gives is at least what a smaller one gave.
            let lowest = line[line.len() - 1].1;
            line.push((point.mean_repetitions, point.changed.min(lowest)));
        }
        area(&line, repetitions)
    }
}

/// The area under straight lines between points that go right, from 1 to `repetitions`.
pub(super) fn area(line: &[(f64, f64)], repetitions: usize) -> f64 {
    let Some(&(_, last)) = line.last() else { return 0.0 };
    let line: Vec<(f64, f64)> = line.iter().copied().chain([(repetitions as f64, last)]).collect();
    line.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum()
}

/// The least area there could be: whatever the budget, tokens that settle early go first.
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
