//! Learning-rate schedules: constant, warm-up with cosine or linear decay, and warm-up-stable-decay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Shape of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Constant.
    Constant,
    /// Cosine decay. Loshchilov and Hutter 2017.
    #[default]
    WarmupCosine,
    /// Linear decay.
    WarmupLinear,
    /// Warm-up, stable, decay: constant, then linear decay over the last part of the run. Hu et al.
    /// 2024.
    Wsd,
}

/// Learning-rate schedule: `[train.schedule]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Shape after the warm-up: `constant`, `warmup-cosine`, `warmup-linear` or `wsd`.
    pub kind: ScheduleKind,
    /// Steps of linear warm-up; at most half of the run is used.
    pub warmup_steps: u64,
    /// Learning rate at the end as a fraction of the highest; ignored by `constant`.
    pub final_lr_fraction: f64,
    /// Fraction of the run over which `wsd` decays; ignored by the others.
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
            // 1 / warmup in the first step, not 0, so that it updates the parameters.
            return (step + 1) as f64 / warmup as f64;
        }
        let decay_steps = match self.kind {
            ScheduleKind::Constant => return 1.0,
            ScheduleKind::WarmupCosine | ScheduleKind::WarmupLinear => steps - warmup,
            ScheduleKind::Wsd => {
                ((steps as f64 * self.decay_fraction).round() as u64).min(steps - warmup)
            }
        };
        let start = steps - decay_steps;
        if step < start {
            return 1.0;
        }
        let progress = ((step - start) as f64 / decay_steps.max(1) as f64).min(1.0);
        let remaining = match self.kind {
            ScheduleKind::WarmupCosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            _ => 1.0 - progress,
        };
        self.final_lr_fraction + (1.0 - self.final_lr_fraction) * remaining
    }
}
