//! Which threshold keeps a budget, or a risk?

use serde::{Deserialize, Serialize};

use super::curve::{Budget, Curve, Risk};
use super::gate::Gate;
use super::name::PolicyName;
use super::policy::HaltingPolicy;
use crate::error::{Error, Result};

/// When a gate learned what it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learned {
    /// When the student was done, which it left as it was.
    #[default]
    Afterwards,
    /// Together with the student.
    Together,
}

impl Learned {
    /// Whether it was fitted to a frozen student.
    #[must_use]
    pub fn is_afterwards(&self) -> bool {
        *self == Self::Afterwards
    }
}

/// A policy with what was found for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The threshold that keeps the risk.
    pub threshold: f64,
    /// Its gate, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Where the gate comes from.
    #[serde(default, skip_serializing_if = "Learned::is_afterwards")]
    pub learned: Learned,
    /// What other thresholds gave.
    pub curve: Curve,
}

/// The content of `halting.json` beside a student.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halting {
    /// Of the student's weights: a gate says nothing of another's states.
    pub student: String,
    /// N that was calibrated for.
    pub repetitions: usize,
    /// D.
    pub width: usize,
    /// What the thresholds keep.
    pub risk: Risk,
    /// The policy that kept it with the fewest repetitions.
    pub best: PolicyName,
    /// Tokens that gates were fitted on, and thresholds chosen on.
    pub tokens: [usize; 2],
    /// Every policy.
    pub policies: Vec<Calibration>,
}

impl Halting {
    /// What was found for `policy`.
    ///
    /// # Errors
    /// It was not calibrated.
    pub fn find(&self, policy: PolicyName) -> Result<&Calibration> {
        let found = self.policies.iter().find(|found| found.curve.policy == policy);
        found.ok_or_else(|| {
            Error::input(format!("`{policy}` was not calibrated for this student"))
                .hint("run: factorize calibrate --student S --teacher T --text FILES")
        })
    }

    /// Refuses what does not belong to a student `width` wide with this fingerprint.
    ///
    /// # Errors
    /// It belongs to another, or is damaged.
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
            return damaged("a number of repetitions that no student takes");
        }
        for found in &self.policies {
            let policy = found.curve.policy;
            policy.with(found.threshold)?;
            if found.curve.points.is_empty() {
                return damaged("a policy without thresholds");
            }
            match &found.gate {
                None if policy.reads().gate => return damaged("a policy without its gate"),
                Some(gate) => {
                    let numbers = gate.weight.iter().chain(&gate.bias).chain([&gate.change]);
                    let finite = numbers.copied().all(f32::is_finite);
                    if gate.weight.len() != width || gate.bias.is_empty() || !finite {
                        return damaged("a gate of another width, or not finite");
                    }
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Calibration {
    /// The policy at its threshold, or at the one that `budget` leads to.
    ///
    /// # Errors
    /// No threshold keeps the budget.
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
    fn budgets_and_risks_read_as_they_are_written() {
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
    fn a_threshold_keeps_its_budget_and_its_risk() {
        let traces = easy_and_hard(400, 5);
        let curve = traces.sweep(PolicyName::Gap, None).unwrap();
        let oracle = traces.oracle().mean_repetitions;
        let found = curve.within(Risk::Changed(0.0)).unwrap();
        assert!((found.mean_repetitions - oracle).abs() < 1e-9);
        let found = curve.within(Risk::Kl(1e-6)).unwrap();
        assert!((found.mean_repetitions - oracle).abs() < 1e-9);
        let found = curve.affordable(Budget::Mean(oracle + 0.01)).unwrap();
        assert!((found.mean_repetitions - oracle).abs() < 1e-9);
        let found = curve.affordable(Budget::Quantile { share: 1.0, repetitions: 3 }).unwrap();
        assert_eq!(found.stops[3], 0);
        let kl = traces.sweep(PolicyName::Kl, None).unwrap();
        assert!(kl.affordable(Budget::Mean(1.0)).is_err());
        // Of leads that are all 1 the strictest threshold stops every token at once.
        let mut sure = traces;
        sure.output.iter_mut().for_each(|output| output.gap = 1.0);
        let curve = sure.sweep(PolicyName::Gap, None).unwrap();
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
