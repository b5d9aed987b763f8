//! Calibrated halting policies of a student: the content of `halting.json`.

use serde::{Deserialize, Serialize};

use super::curve::{Budget, Curve, Risk};
use super::gate::Gate;
use super::name::PolicyName;
use super::policy::HaltingPolicy;
use crate::error::{Error, Result};

/// When a gate was trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateTraining {
    /// After the student, which stays frozen.
    #[default]
    Afterwards,
    /// Jointly with the student.
    Together,
}

impl GateTraining {
    /// Whether the gate was fitted to a frozen student.
    #[must_use]
    pub fn is_afterwards(&self) -> bool {
        *self == Self::Afterwards
    }
}

/// A policy with its calibrated threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The threshold that meets the risk.
    pub threshold: f64,
    /// The gate, for policies that read one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// When the gate was trained.
    #[serde(default, skip_serializing_if = "GateTraining::is_afterwards")]
    pub learned: GateTraining,
    /// Measurements over the thresholds.
    pub curve: Curve,
}

/// The halting policies of a student: `halting.json` in its folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halting {
    /// Fingerprint of the student's weights: gates are valid for one student only.
    pub student: String,
    /// N, the repetitions of the calibration.
    pub repetitions: usize,
    /// D, width of the student.
    pub width: usize,
    /// The risk that the thresholds meet.
    pub risk: Risk,
    /// The policy that meets it with the fewest repetitions.
    pub best: PolicyName,
    /// Number of tokens that gates were fitted on, and that thresholds were chosen on.
    pub tokens: [usize; 2],
    /// The calibrated policies.
    pub policies: Vec<Calibration>,
}

impl Halting {
    /// The calibration of `policy`.
    ///
    /// # Errors
    /// The policy was not calibrated.
    pub fn find(&self, policy: PolicyName) -> Result<&Calibration> {
        let calibration = self.policies.iter().find(|known| known.curve.policy == policy);
        calibration.ok_or_else(|| {
            Error::input(format!("`{policy}` was not calibrated for this student"))
                .hint("run: factorize calibrate --student S --teacher T --text FILES")
        })
    }

    /// Checks that this belongs to the student with this fingerprint and width.
    ///
    /// # Errors
    /// It belongs to another student, or is damaged.
    pub fn check(&self, fingerprint: &str, width: usize) -> Result<()> {
        if self.student != fingerprint || self.width != width {
            return Err(Error::input("this halting head was fitted on another model")
                .hint("run `factorize calibrate` on this student"));
        }
        let damaged = |what: &str| {
            Err(Error::input(format!("the halting head is damaged: {what}"))
                .hint("run `factorize calibrate` again"))
        };
        if !(2..=1 << 16).contains(&self.repetitions) {
            return damaged("its number of repetitions is out of range");
        }
        for calibration in &self.policies {
            let policy = calibration.curve.policy;
            policy.with(calibration.threshold)?;
            if calibration.curve.points.is_empty() {
                return damaged("a policy has no thresholds");
            }
            match &calibration.gate {
                None if policy.reads().gate => return damaged("a policy has no gate"),
                Some(gate) => {
                    let parameters = gate.weight.iter().chain(&gate.bias).chain([&gate.change]);
                    let finite = parameters.copied().all(f32::is_finite);
                    if gate.weight.len() != width || gate.bias.is_empty() || !finite {
                        return damaged("a gate has another width or is not finite");
                    }
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Calibration {
    /// The policy and its threshold: the calibrated one, or the one that meets `budget`.
    ///
    /// # Errors
    /// No threshold meets the budget.
    pub fn policy(&self, budget: Option<Budget>) -> Result<(Box<dyn HaltingPolicy>, f64)> {
        let threshold = match budget {
            None | Some(Budget::Most(_)) => self.threshold,
            Some(budget) => self.curve.affordable(budget)?.threshold,
        };
        Ok((self.curve.policy.with(threshold)?, threshold))
    }
}

#[cfg(test)]
mod tests {
    use super::super::curve::oracle_area;
    use super::super::traces::examples::easy_and_hard;
    use super::*;

    #[test]
    fn budgets_and_risks_parse() {
        assert_eq!("2.5".parse::<Budget>().unwrap(), Budget::Mean(2.5));
        assert_eq!("max=3".parse::<Budget>().unwrap(), Budget::Most(3));
        let quantile = Budget::Quantile { share: 0.9, repetitions: 3 };
        assert_eq!("90%=3".parse::<Budget>().unwrap(), quantile);
        for wrong in ["0.5", "max=0", "0%=3", "90=3", "nan", "", "max=", "120%=2"] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
        assert_eq!("kl=0.01".parse::<Risk>().unwrap(), Risk::Kl(0.01));
        for wrong in ["kl=-1", "kl", "changed=2", "kl=inf"] {
            assert!(wrong.parse::<Risk>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_threshold_meets_its_budget_and_its_risk() {
        let traces = easy_and_hard(400, 5);
        let curve = traces.sweep(PolicyName::Gap, None).unwrap();
        let oracle = traces.oracle().mean_repetitions;
        let point = curve.within(Risk::Changed(0.0)).unwrap();
        assert!((point.mean_repetitions - oracle).abs() < 1e-9);
        let point = curve.within(Risk::Kl(1e-6)).unwrap();
        assert!((point.mean_repetitions - oracle).abs() < 1e-9);
        let point = curve.affordable(Budget::Mean(oracle + 0.01)).unwrap();
        assert!((point.mean_repetitions - oracle).abs() < 1e-9);
        let point = curve.affordable(Budget::Quantile { share: 1.0, repetitions: 3 }).unwrap();
        assert_eq!(point.stops[3], 0);
        let kl = traces.sweep(PolicyName::Kl, None).unwrap();
        assert!(kl.affordable(Budget::Mean(1.0)).is_err());
        // If every margin is 1, the strictest threshold stops every token at once.
        let mut saturated = traces;
        saturated.output.iter_mut().for_each(|output| output.gap = 1.0);
        let curve = saturated.sweep(PolicyName::Gap, None).unwrap();
        assert!(curve.within(Risk::Changed(0.0)).is_none());
        assert!((curve.chosen(Risk::Changed(0.0)).unwrap().mean_repetitions - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_perfect_policy_has_the_area_of_the_oracle() {
        let traces = easy_and_hard(400, 5);
        let settled = traces.settled();
        let oracle = oracle_area(&settled, 4);
        let first = traces.outcome(0.0, |_| 1).changed;
        let fixed = traces.sweep(PolicyName::Fixed, None).unwrap().area(first, 4);
        let gap = traces.sweep(PolicyName::Gap, None).unwrap().area(first, 4);
        assert!(oracle < fixed - 0.1, "{oracle} {fixed}");
        assert!((gap - oracle).abs() < 0.02, "{gap} {oracle}");
        // Half of the tokens settle at 1, half at 3: from (1, 0.5) to (2, 0).
        let area = oracle_area(&[1, 3, 1, 3], 4);
        assert!((area - 0.25).abs() < 1e-12, "{area}");
    }
}
