//! Construction of a policy from its name and threshold.

use super::act::Act;
use super::change::Change;
use super::correctness::Correctness;
use super::exit_gate::ExitGate;
use super::fixed::Fixed;
use super::gap::Gap;
use super::kl::Kl;
use super::name::{PolicyName, Range};
use super::policy::{HaltingPolicy, Mix, Reads};
use super::ponder::{PONDER_PRIOR, Ponder};
use super::second_difference::SecondDifference;
use super::stable::Stable;
use crate::error::{Error, Result};

impl PolicyName {
    /// The signals that the policy reads.
    #[must_use]
    pub fn reads(self) -> Reads {
        self.with(1.0).map_or_else(|_| Reads::default(), |policy| policy.reads())
    }

    /// Whether the policy averages states, so that the output of a stopped token is not that of its
    /// last state.
    #[must_use]
    pub fn averages(self) -> bool {
        self.with(1.0).is_ok_and(|policy| policy.mix() == Mix::States)
    }

    /// The policy at `threshold`.
    ///
    /// # Errors
    /// The threshold lies outside its range.
    pub fn with(self, threshold: f64) -> Result<Box<dyn HaltingPolicy>> {
        let (valid, expected) = match self.range() {
            Range::Share => (threshold > 0.0 && threshold <= 1.0, "above 0 and up to 1"),
            Range::Size => (threshold >= 0.0 && threshold.is_finite(), "0 or more"),
            Range::Count => {
                let integer = threshold >= 1.0 && threshold.fract() == 0.0 && threshold < 1e6;
                (integer, "a whole number from 1")
            }
        };
        if !valid {
            return Err(Error::input(format!(
                "the threshold of `{self}` is {threshold}, expected {expected}"
            )));
        }
        let (threshold, count) = (threshold as f32, threshold as usize);
        Ok(match self {
            Self::Fixed => Box::new(Fixed { repetitions: count }),
            Self::Act => Box::new(Act { threshold }),
            Self::Ponder => Box::new(Ponder { threshold, prior: PONDER_PRIOR }),
            Self::ExitGate => Box::new(ExitGate { threshold }),
            Self::Correctness => Box::new(Correctness { threshold }),
            Self::Kl => Box::new(Kl { threshold }),
            Self::Change => Box::new(Change { threshold }),
            Self::SecondDifference => Box::new(SecondDifference { threshold }),
            Self::Gap => Box::new(Gap { threshold }),
            Self::Stable => Box::new(Stable { repetitions: count }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_thresholds_out_of_range_are_refused() {
        for policy in PolicyName::ALL {
            assert_eq!(policy.name().parse::<PolicyName>().unwrap(), policy);
            assert!(policy.with(1.0).is_ok());
            assert!(policy.with(-1.0).is_err() && policy.with(f64::NAN).is_err());
        }
        assert!("kll".parse::<PolicyName>().is_err());
        assert!(PolicyName::Gap.with(1.5).is_err() && PolicyName::Stable.with(1.5).is_err());
    }
}
