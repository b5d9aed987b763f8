//! Which policy is meant by a name?

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::act::Act;
use super::change::Change;
use super::correctness::Correctness;
use super::exit_gate::ExitGate;
use super::fixed::Fixed;
use super::gap::Gap;
use super::kl::Kl;
use super::policy::{HaltingPolicy, Mix, Reads};
use super::ponder::Ponder;
use super::second_difference::SecondDifference;
use super::stable::Stable;
use crate::error::{Error, Result};

/// A policy by name; a threshold makes it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// As many repetitions for all.
    Fixed,
    /// Adaptive computation time.
    Act,
    /// PonderNet.
    Ponder,
    /// Exit gate, fitted on what one more repetition gains.
    ExitGate,
    /// Is the answer right already?
    Correctness,
    /// KL between the outputs of two repetitions.
    Kl,
    /// Relative change of the state.
    Change,
    /// Second difference of the states, twice.
    SecondDifference,
    /// Lead of the likeliest token.
    Gap,
    /// The likeliest token stays.
    Stable,
}

/// What a threshold may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// Above 0 and up to 1.
    Share,
    /// Any number from 0.
    Size,
    /// A whole number from 1.
    Count,
}

impl PolicyName {
    /// Every policy.
    pub const ALL: [Self; 10] = [
        Self::Fixed,
        Self::Act,
        Self::Ponder,
        Self::ExitGate,
        Self::Correctness,
        Self::Kl,
        Self::Change,
        Self::SecondDifference,
        Self::Gap,
        Self::Stable,
    ];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Act => "act",
            Self::Ponder => "ponder",
            Self::ExitGate => "exit-gate",
            Self::Correctness => "correctness",
            Self::Kl => "kl",
            Self::Change => "change",
            Self::SecondDifference => "second-difference",
            Self::Gap => "gap",
            Self::Stable => "stable",
        }
    }

    /// What it looks at.
    #[must_use]
    pub fn reads(self) -> Reads {
        self.with(1.0).map_or_else(|_| Reads::default(), |policy| policy.reads())
    }

    /// Whether it averages states: what a token says where it stops is not what its state there says.
    #[must_use]
    pub fn averages(self) -> bool {
        self.with(1.0).is_ok_and(|policy| policy.mix() == Mix::States)
    }

    /// Whether a higher threshold stops sooner.
    #[must_use]
    pub fn rises(self) -> bool {
        matches!(self, Self::Kl | Self::Change | Self::SecondDifference)
    }

    pub(super) fn range(self) -> Range {
        match self {
            Self::Fixed | Self::Stable => Range::Count,
            Self::Kl | Self::Change | Self::SecondDifference => Range::Size,
            _ => Range::Share,
        }
    }

    /// The policy at `threshold`.
    ///
    /// # Errors
    /// The threshold lies outside its range.
    pub fn with(self, threshold: f64) -> Result<Box<dyn HaltingPolicy>> {
        let (fits, expected) = match self.range() {
            Range::Share => (threshold > 0.0 && threshold <= 1.0, "above 0 and up to 1"),
            Range::Size => (threshold >= 0.0 && threshold.is_finite(), "0 or more"),
            Range::Count => {
                let whole = threshold >= 1.0 && threshold.fract() == 0.0 && threshold < 1e6;
                (whole, "a whole number from 1")
            }
        };
        if !fits {
            return Err(Error::input(format!(
                "the threshold of `{self}` is {threshold}, expected {expected}"
            )));
        }
        let (threshold, count) = (threshold as f32, threshold as usize);
        Ok(match self {
            Self::Fixed => Box::new(Fixed { repetitions: count }),
            Self::Act => Box::new(Act { threshold }),
            Self::Ponder => Box::new(Ponder { threshold, prior: super::fit::PRIOR }),
            Self::ExitGate => Box::new(ExitGate { threshold }),
            Self::Correctness => Box::new(Correctness { threshold }),
            Self::Kl => Box::new(Kl { threshold }),
            Self::Change => Box::new(Change { threshold }),
            Self::SecondDifference => Box::new(SecondDifference { threshold }),
            Self::Gap => Box::new(Gap { threshold }),
            Self::Stable => Box::new(Stable { repetitions: count }),
        })
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PolicyName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::input(format!("`{text}` is no halting policy"))
                .hint(format!("there are: {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_and_a_threshold_outside_its_range_does_not() {
        for policy in PolicyName::ALL {
            assert_eq!(policy.name().parse::<PolicyName>().unwrap(), policy);
            assert!(policy.with(1.0).is_ok());
            assert!(policy.with(-1.0).is_err() && policy.with(f64::NAN).is_err());
        }
        assert!("kll".parse::<PolicyName>().is_err());
        assert!(PolicyName::Gap.with(1.5).is_err() && PolicyName::Stable.with(1.5).is_err());
    }
}
