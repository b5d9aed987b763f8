//! How does a gate learn when a token is done, while its student still learns what to say?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::weight_schedule::WeightSchedule;
use crate::error::{Error, Result};
use crate::halting::JointPolicy;
use crate::halting::ponder::geometric;

/// What learns from the losses at each repetition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Learns {
    /// Gate and student: the student says more where tokens are likely to stop.
    #[default]
    Both,
    /// The gate alone, beside a student that learns as it would without it.
    Gate,
}

/// A gate that learns together with the student: `[loss.halting]`. After every repetition n of a
/// step the student is read out through coda, last norm and head, and loses `L_n` by the weights of
/// `kl` and `cross_entropy`. The gate, on the state after the repetition, gives the probability
/// `p_n` that the token stops there; what stops at none before the last stops at the last. To the
/// loss is added, as a mean over tokens,
///
/// weight (sum `p_n` `L_n` + `cost_weight` cost), where the cost is
/// KL(p || prior) of `ponder`, Banino et al. 2021, with the geometric prior cut off at the last
/// repetition, and the negative entropy of p of `exit-gate`, Zhu et al. 2025.
///
/// `act`, Graves 2016, has one loss instead of the sum: of what is said of the mean of the states,
/// weighed by what the gates say until they have spent what a token was given, and the repetitions
/// it takes plus what is left as the cost.
///
/// The last repetition's own loss stays beside it: a gate cannot make the loss small by never
/// getting there. Every step reads out every repetition, which costs as many times the head.
/// Nothing is learned of halting while the teacher's own states are forced.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HaltingConfig {
    /// The policy that will stop by the gate.
    pub policy: JointPolicy,
    /// Of the expected loss and its cost.
    #[serde(default = "one")]
    pub weight: WeightSchedule,
    /// beta, of the cost; 0.01 for `ponder` and 0.05 for `exit-gate` when absent, as their authors
    /// end with, and 0.01 for `act`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_weight: Option<f64>,
    /// Of `ponder` alone: of the repetitions that are left, so many stop; one over the repetitions
    /// expected. 0.4 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<f64>,
    /// What learns from it.
    #[serde(default)]
    pub learns: Learns,
}

fn one() -> WeightSchedule {
    WeightSchedule::Constant(1.0)
}

impl HaltingConfig {
    /// A gate of this policy, everything else as when it is not said.
    #[must_use]
    pub fn new(policy: JointPolicy) -> Self {
        Self { policy, weight: one(), cost_weight: None, prior: None, learns: Learns::Both }
    }

    /// Refuses coefficients that mean nothing.
    pub(super) fn validate(&self) -> Result<()> {
        if let Some(beta) = self.cost_weight.filter(|beta| !(beta.is_finite() && *beta >= 0.0)) {
            return Err(Error::input(format!(
                "loss.halting.cost_weight is {beta}, expected 0 or more"
            )));
        }
        if self.policy == JointPolicy::Act && self.learns == Learns::Gate {
            return Err(Error::input("an ACT gate learns through what its student says of a mean")
                .hint("write loss.halting.learns = \"both\""));
        }
        match (self.policy, self.prior) {
            (JointPolicy::ExitGate | JointPolicy::Act, Some(_)) => {
                Err(Error::input("loss.halting.prior is given, and only `ponder` has one")
                    .hint("leave it out, or write loss.halting.policy = \"ponder\""))
            }
            (_, Some(prior)) if !(prior > 0.0 && prior < 1.0) => Err(Error::input(format!(
                "loss.halting.prior is {prior}, expected a number between 0 and 1"
            ))),
            _ => Ok(()),
        }
    }

    /// beta.
    pub(super) fn beta(&self) -> f64 {
        self.cost_weight.unwrap_or(match self.policy {
            JointPolicy::Ponder | JointPolicy::Act => 0.01,
            JointPolicy::ExitGate => 0.05,
        })
    }

    /// What p is compared with, (N): but for `ponder` nothing.
    pub(super) fn prior(&self, repetitions: usize) -> Vec<f32> {
        match self.policy {
            JointPolicy::Ponder => {
                let prior = self.prior.map_or(crate::halting::ponder::PRIOR, |prior| prior as f32);
                geometric(prior, repetitions)
            }
            JointPolicy::ExitGate | JointPolicy::Act => vec![1.0; repetitions],
        }
    }
}
