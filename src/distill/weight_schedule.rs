//! How does the weight of a loss change while training goes on?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A weight that may move in a straight line while training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum WeightSchedule {
    /// Always the same.
    Constant(f64),
    /// From one value to another between two fractions of the run.
    Ramp {
        /// At `begin` and before.
        from: f64,
        /// At `end` and after.
        to: f64,
        /// Fraction of the run, 0 to 1.
        #[serde(default)]
        begin: f64,
        /// Fraction of the run, 0 to 1.
        #[serde(default = "one")]
        end: f64,
    },
}

fn one() -> f64 {
    1.0
}

impl WeightSchedule {
    /// The weight at `progress`, 0 to 1.
    #[must_use]
    pub fn at(self, progress: f64) -> f64 {
        match self {
            Self::Constant(weight) => weight,
            Self::Ramp { from, to, begin, end } => {
                let way = ((progress - begin) / (end - begin).max(1e-12)).clamp(0.0, 1.0);
                from + (to - from) * way
            }
        }
    }

    /// Whether it is never above 0.
    #[must_use]
    pub fn is_zero(self) -> bool {
        match self {
            Self::Constant(weight) => weight <= 0.0,
            Self::Ramp { from, to, .. } => from <= 0.0 && to <= 0.0,
        }
    }

    pub(super) fn is_valid(self) -> bool {
        match self {
            Self::Constant(weight) => weight.is_finite() && weight >= 0.0,
            Self::Ramp { from, to, begin, end } => {
                let weights = [from, to].iter().all(|w| w.is_finite() && *w >= 0.0);
                weights && begin >= 0.0 && begin <= end && end <= 1.0
            }
        }
    }
}
