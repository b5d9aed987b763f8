//! How large is the learning rate at each step?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// It stays.
    Constant,
    /// It falls along half a cosine.
    #[default]
    WarmupCosine,
    /// It falls along a line.
    WarmupLinear,
    /// Warm-up, stable, decay: it stays, then falls along a line over the last part of the run.
    Wsd,
}

/// A learning rate that changes over training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The course after the warm-up: `constant`, `warmup-cosine`, `warmup-linear` or `wsd`.
    pub kind: ScheduleKind,
    /// Steps over which the rate rises along a line from near zero; at most half of the run.
    pub warmup_steps: u64,
    /// The rate at the end as a fraction of the highest; `constant` does not read it.
    pub final_lr_fraction: f64,
    /// The part of the run over which `wsd` decays; the others do not read it.
    pub decay_fraction: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::WarmupCosine,
            warmup_steps: 20,
            final_lr_fraction: 0.1,
            decay_fraction: 0.2,
        }
    }
}

impl Schedule {
    /// Refuses fractions outside 0 to 1.
    ///
    /// # Errors
    /// The first key out of its range.
    pub fn validate(&self) -> Result<()> {
        let fractions = [
            ("final_lr_fraction", self.final_lr_fraction),
            ("decay_fraction", self.decay_fraction),
        ];
        for (key, value) in fractions {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::input(format!("{key} is {value}, expected 0 to 1"))
                    .at(format!("train.schedule.{key}")));
            }
        }
        Ok(())
    }

    /// The fraction of the highest rate at `step`, counted from 0, in a run of `steps`.
    #[must_use]
    pub fn fraction(&self, step: u64, steps: u64) -> f64 {
        let warmup = self.warmup_steps.min(steps / 2);
        if step < warmup {
            // The first step already learns: 1 / warmup, not 0.
            return (step + 1) as f64 / warmup as f64;
        }
        let falling = match self.kind {
            ScheduleKind::Constant => return 1.0,
            ScheduleKind::WarmupCosine | ScheduleKind::WarmupLinear => steps - warmup,
            ScheduleKind::Wsd => {
                ((steps as f64 * self.decay_fraction).round() as u64).min(steps - warmup)
            }
        };
        let start = steps - falling;
        if step < start {
            return 1.0;
        }
        let progress = ((step - start) as f64 / falling.max(1) as f64).min(1.0);
        let remaining = match self.kind {
            ScheduleKind::WarmupCosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            _ => 1.0 - progress,
        };
        self.final_lr_fraction + (1.0 - self.final_lr_fraction) * remaining
    }
}
