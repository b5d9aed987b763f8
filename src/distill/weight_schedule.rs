//! Loss weights that are constant or follow a linear schedule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Weight of a loss term, constant or linear in the progress of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum WeightSchedule {
    /// The same weight in every step.
    Constant(f64),
    /// Linear from one weight to another between two fractions of the run.
    Ramp {
        /// Weight up to `begin`.
        from: f64,
        /// Weight from `end` on.
        to: f64,
        /// Fraction of the run at which the weight starts to change, 0 to 1.
        #[serde(default)]
        begin: f64,
        /// Fraction of the run at which the weight has reached `to`, 0 to 1.
        #[serde(default = "one")]
        end: f64,
    },
}

fn one() -> f64 {
    1.0
}

impl WeightSchedule {
    /// The weight at `progress`, the fraction of the run that is done, 0 to 1.
    #[must_use]
    pub fn at(self, progress: f64) -> f64 {
        match self {
            Self::Constant(weight) => weight,
            Self::Ramp { from, to, begin, end } => {
                let share = ((progress - begin) / (end - begin).max(1e-12)).clamp(0.0, 1.0);
                from + (to - from) * share
            }
        }
    }

    /// Whether the weight is 0 during the whole run.
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
