//! The names of halting policies and the ranges of their thresholds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of a halting policy, which together with a threshold defines a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// The same number of repetitions for every token.
    Fixed,
    /// Adaptive computation time.
    Act,
    /// PonderNet.
    Ponder,
    /// Exit gate, trained on the gain of one more repetition.
    ExitGate,
    /// Predicted correctness of the output.
    Correctness,
    /// KL between the outputs of two repetitions.
    Kl,
    /// Relative change of the state.
    Change,
    /// Second difference of the states, twice in a row.
    SecondDifference,
    /// Top-1 margin.
    Gap,
    /// Stable top-1 token.
    Stable,
}

/// The range of a policy's threshold.
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

    /// The name in files and on the command line.
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
            Error::input(format!("`{text}` is not a halting policy"))
                .hint(format!("expected one of: {names}"))
        })
    }
}
