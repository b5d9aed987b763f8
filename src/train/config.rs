//! The `[train]` section of a recipe.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::optimizer::OptimizerConfig;
use super::schedule::Schedule;
use crate::error::{Error, Result};

/// A training run: `[train]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimizer steps in the whole run.
    pub steps: u64,
    /// B, windows in one micro-batch.
    pub batch_rows: usize,
    /// Micro-batches whose gradients are averaged into one step.
    pub accumulate: u64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Learning-rate schedule, as a fraction of `optimizer.lr`.
    pub schedule: Schedule,
    /// Decay per step of an exponential moving average of the weights, for example 0.999; early
    /// steps use a smaller decay. Absent: no average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Steps between checkpoints; 0: only at the end and on Ctrl-C.
    pub checkpoint_every_steps: u64,
    /// Number of newest checkpoints to keep; older ones are deleted.
    pub keep_checkpoints: usize,
    /// Steps between validations on the validation split; 0: never.
    pub validate_every_steps: u64,
    /// Consecutive steps with a non-finite loss or gradient after which the run ends with an error.
    pub max_bad_steps: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch_rows: 8,
            accumulate: 1,
            optimizer: OptimizerConfig::default(),
            schedule: Schedule::default(),
            ema: None,
            checkpoint_every_steps: 100,
            keep_checkpoints: 2,
            validate_every_steps: 250,
            max_bad_steps: 10,
        }
    }
}

impl TrainConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// The first key out of its range, with the range.
    pub fn validate(&self) -> Result<()> {
        let at_least_one = [
            ("steps", self.steps),
            ("batch_rows", self.batch_rows as u64),
            ("accumulate", self.accumulate),
            ("keep_checkpoints", self.keep_checkpoints as u64),
            ("max_bad_steps", self.max_bad_steps),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(Error::input(format!("{key} is 0, expected 1 or more"))
                    .at(format!("train.{key}")));
            }
        }
        if let Some(decay) = self.ema
            && !(0.0..1.0).contains(&decay)
        {
            return Err(Error::input(format!("ema is {decay}, expected 0 to below 1"))
                .at("train.ema")
                .hint("0.99 to 0.9999 are usual; leave the key out to keep no average"));
        }
        self.optimizer.validate()?;
        self.schedule.validate()
    }
}
