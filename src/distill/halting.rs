//! Configuration of a halting gate that is trained jointly with the student.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::weight_schedule::WeightSchedule;
use crate::error::{Error, Result};
use crate::halting::{JointPolicy, PONDER_PRIOR, geometric};

/// What the halting loss trains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trains {
    /// Gate and student: the output after a repetition is weighted by the probability of stopping.
    #[default]
    Both,
    /// Only the gate; the student is trained as without it.
    Gate,
}

/// Joint training of a halting gate: `[loss.halting]`. After every repetition n the output of the
/// student is computed through coda, last norm and head, with the loss `L_n` by the weights of `kl`
/// and `cross_entropy`. The gate reads the state after the repetition; `p_n` is the probability
/// that the token stops there, and the last repetition takes the remaining probability. The mean
/// over tokens of
///
/// weight (sum `p_n` `L_n` + `cost_weight` cost)
///
/// is added to the loss. The cost of `ponder` is KL(p || prior) with a geometric prior truncated at
/// the last repetition (Banino et al. 2021), that of `exit-gate` the negative entropy of p (Zhu et
/// al. 2025).
///
/// `act` (Graves 2016) has one loss instead of the sum: that of the mean of the states, each
/// weighted by its gate until the gates sum to 1 - eps; its cost is the number of repetitions plus
/// the remainder.
///
/// The loss of the last repetition is part of the total as well, so that a gate cannot make the
/// loss small by stopping every token early. Every step computes the output after every repetition,
/// which costs N times the head. There is no halting loss in the teacher-forced phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HaltingConfig {
    /// The policy that stops by the gate.
    pub policy: JointPolicy,
    /// Weight of the expected loss and its cost.
    #[serde(default = "default_weight")]
    pub weight: WeightSchedule,
    /// beta, weight of the cost. Absent: 0.01 for `ponder` and 0.05 for `exit-gate`, the values
    /// their authors end with, and 0.01 for `act`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_weight: Option<f64>,
    /// Parameter of the geometric prior, for `ponder` only: one over the expected number of
    /// repetitions. Absent: 0.4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<f64>,
    /// What the halting loss trains.
    #[serde(default, alias = "learns")]
    #[schemars(extend("x-alias" = "learns"))]
    pub trains: Trains,
}

fn default_weight() -> WeightSchedule {
    WeightSchedule::Constant(1.0)
}

impl HaltingConfig {
    /// A gate of this policy with default weights.
    #[must_use]
    pub fn new(policy: JointPolicy) -> Self {
        let weight = default_weight();
        Self { policy, weight, cost_weight: None, prior: None, trains: Trains::Both }
    }

    /// Refuses invalid coefficients.
    pub(super) fn validate(&self) -> Result<()> {
        if let Some(beta) = self.cost_weight.filter(|beta| !(beta.is_finite() && *beta >= 0.0)) {
            return Err(Error::input(format!(
                "loss.halting.cost_weight is {beta}, expected 0 or more"
            )));
        }
        if self.policy == JointPolicy::Act && self.trains == Trains::Gate {
            return Err(Error::input(
                "loss.halting.trains is \"gate\", but an ACT gate is trained through the output of \
                 its student",
            )
            .hint("write loss.halting.trains = \"both\""));
        }
        match (self.policy, self.prior) {
            (JointPolicy::ExitGate | JointPolicy::Act, Some(_)) => {
                Err(Error::input("loss.halting.prior is given, but only `ponder` has a prior")
                    .hint("leave it out, or write loss.halting.policy = \"ponder\""))
            }
            (_, Some(prior)) if !(prior > 0.0 && prior < 1.0) => Err(Error::input(format!(
                "loss.halting.prior is {prior}, expected a number between 0 and 1"
            ))),
            _ => Ok(()),
        }
    }

    /// beta, the weight of the cost.
    pub(super) fn beta(&self) -> f64 {
        self.cost_weight.unwrap_or(match self.policy {
            JointPolicy::Ponder | JointPolicy::Act => 0.01,
            JointPolicy::ExitGate => 0.05,
        })
    }

    /// The prior q of the cost sum p ln(p / q), (N); 1 everywhere for policies without a prior.
    pub(super) fn prior(&self, repetitions: usize) -> Vec<f32> {
        match self.policy {
            JointPolicy::Ponder => {
                let prior = self.prior.map_or(PONDER_PRIOR, |prior| prior as f32);
                geometric(prior, repetitions)
            }
            JointPolicy::ExitGate | JointPolicy::Act => vec![1.0; repetitions],
        }
    }
}
