//! Settings of an evaluation: how much text, and which repetitions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Settings of the comparison of teacher and student: `[eval]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Tokens of a window; all but the first are predicted.
    pub window_tokens: usize,
    /// Most tokens read, over all windows.
    pub max_tokens: usize,
    /// The student is evaluated at every repetition from 1 to this multiple of its N.
    pub past: usize,
    /// Repetitions to evaluate at instead of 1 to `past` x N; ignored when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repetitions: Vec<usize>,
    /// Windows of one batch.
    pub batch_rows: usize,
    /// Bootstrap resamples of the documents for each interval; 0 gives no intervals.
    pub bootstrap_samples: usize,
    /// Seed of the resamples.
    pub bootstrap_seed: u64,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            window_tokens: 256,
            max_tokens: 8192,
            past: 2,
            repetitions: Vec::new(),
            batch_rows: 8,
            bootstrap_samples: 1000,
            bootstrap_seed: 0,
        }
    }
}

impl EvalConfig {
    /// Refuses values with which nothing is evaluated.
    ///
    /// # Errors
    /// The first value out of its range.
    pub fn validate(&self) -> Result<()> {
        let at_least = [
            ("window_tokens", self.window_tokens, 2),
            ("max_tokens", self.max_tokens, 2),
            ("past", self.past, 1),
            ("batch_rows", self.batch_rows, 1),
        ];
        for (name, value, least) in at_least {
            if value < least {
                return Err(Error::input(format!("{name} is {value}, expected {least} or more")));
            }
        }
        if self.repetitions.contains(&0) {
            return Err(Error::input("0 repetitions leave the core out, expected 1 or more"));
        }
        Ok(())
    }

    /// The repetitions to evaluate a student of `trained` repetitions at, in order.
    #[must_use]
    pub fn repetitions_of(&self, trained: usize) -> Vec<usize> {
        if self.repetitions.is_empty() {
            return (1..=trained.saturating_mul(self.past)).collect();
        }
        let mut wanted = self.repetitions.clone();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }
}
