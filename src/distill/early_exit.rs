//! Early-exit loss: the student's output after repetitions before the last is trained as well.

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::granularity::Granularity;
use super::weight_schedule::WeightSchedule;
use crate::error::{Error, Result};

/// Distribution over the repetitions 1 to N - 1 from which early exits are sampled, where N is the
/// number of repetitions of the step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EarlyExitPrior {
    /// The same probability for each.
    #[default]
    Uniform,
    /// Probability of repetition n proportional to (1 - p)^(n - 1).
    Geometric {
        /// Parameter, between 0 and 1; larger values prefer early repetitions.
        p: f64,
    },
}

/// The teacher's output that an early exit is trained on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EarlyExitTarget {
    /// The teacher's final output.
    #[default]
    Answer,
    /// The output of the teacher's head on the layer that is aligned with the repetition
    /// (logit lens, nostalgebraist 2020): intermediate steps of a computation stay intermediate.
    Layer,
}

/// Early-exit loss: `[loss.early_exit]`. Some repetitions before the last are sampled at every step;
/// their output is computed through coda, last norm and head and compared with the weights of `kl`
/// and `cross_entropy`. Without it, only the state after the last repetition is trained to be a
/// valid input of the coda.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyExitConfig {
    /// Weight of the mean over the sampled early exits; 0 turns the loss off.
    pub weight: WeightSchedule,
    /// Early exits sampled at a step, at most N - 1.
    pub draws: usize,
    /// Distribution from which they are sampled.
    pub prior: EarlyExitPrior,
    /// The teacher's output they are trained on; `layer` ignores `cross_entropy`, because the label
    /// belongs to the final output.
    pub imitate: EarlyExitTarget,
    /// `repetition`: the state after each sampled repetition is read; `layer`: the state after every
    /// layer of every repetition, without sampling.
    pub every: Granularity,
}

impl Default for EarlyExitConfig {
    fn default() -> Self {
        let (draws, prior, imitate) = (1, EarlyExitPrior::Uniform, EarlyExitTarget::Answer);
        let every = Granularity::Repetition;
        Self { weight: WeightSchedule::Constant(0.0), draws, prior, imitate, every }
    }
}

/// A sampled early exit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct EarlyExit {
    /// Number of core layers applied before it, 1 to N K - 1.
    pub(super) applications: usize,
    /// Its share of the mean over the sampled exits.
    pub(super) share: f64,
}

impl EarlyExitConfig {
    /// Refuses invalid draws and priors.
    pub(super) fn validate(&self) -> Result<()> {
        if self.draws == 0 {
            return Err(Error::input("loss.early_exit.draws is 0, expected 1 or more")
                .hint("write loss.early_exit.weight = 0 to turn the early-exit loss off"));
        }
        match self.prior {
            EarlyExitPrior::Geometric { p } if !(p > 0.0 && p < 1.0) => Err(Error::input(format!(
                "loss.early_exit.prior.p is {p}, expected a number between 0 and 1"
            ))),
            _ => Ok(()),
        }
    }

    /// The probability of each of the repetitions 1 to N - 1.
    fn probabilities(&self, repetitions: usize) -> Vec<f64> {
        let weight = |n: usize| match self.prior {
            EarlyExitPrior::Uniform => 1.0,
            EarlyExitPrior::Geometric { p } => (1.0 - p).powi(n as i32 - 1),
        };
        let weights: Vec<f64> = (1..repetitions).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// The early exits of a step of `repetitions` of a core of `core_layers`, in increasing order.
    pub(super) fn exits(
        &self,
        repetitions: usize,
        core_layers: usize,
        rng: &mut impl Rng,
    ) -> Vec<EarlyExit> {
        match self.every {
            Granularity::Layer => {
                let layers = 1..repetitions * core_layers;
                let share = 1.0 / layers.len().max(1) as f64;
                layers.map(|applications| EarlyExit { applications, share }).collect()
            }
            Granularity::Repetition => self.sample(repetitions, core_layers, rng),
        }
    }

    /// Systematic sampling of repetitions before the last: one uniform number, and `draws` points
    /// 1 / `draws` apart on the cumulative distribution. Over many steps a repetition is read as often
    /// as the prior says, in one step its count differs from that by less than one. One sampled twice
    /// has twice the share.
    fn sample(&self, repetitions: usize, core_layers: usize, rng: &mut impl Rng) -> Vec<EarlyExit> {
        let probabilities = self.probabilities(repetitions);
        let draws = self.draws.min(probabilities.len());
        let offset = rng.random::<f64>();
        let mut exits: Vec<EarlyExit> = Vec::with_capacity(draws);
        let (mut repetition, mut cumulative) = (1, probabilities.first().copied().unwrap_or(1.0));
        for draw in 0..draws {
            let point = (draw as f64 + offset) / draws as f64;
            while point >= cumulative && repetition < probabilities.len() {
                cumulative += probabilities[repetition];
                repetition += 1;
            }
            let (applications, share) = (repetition * core_layers, 1.0 / draws as f64);
            match exits.last_mut().filter(|exit| exit.applications == applications) {
                Some(exit) => exit.share += share,
                None => exits.push(EarlyExit { applications, share }),
            }
        }
        exits
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The share of the mean that each repetition has over many steps; asserts that the shares of
    /// each step sum to one and that the repetitions increase.
    fn shares(config: EarlyExitConfig, repetitions: usize) -> Vec<f64> {
        const STEPS: usize = 20_000;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut shares = vec![0.0; repetitions - 1];
        for _ in 0..STEPS {
            let exits = config.exits(repetitions, 1, &mut rng);
            assert!(exits.windows(2).all(|pair| pair[0].applications < pair[1].applications));
            assert!((exits.iter().map(|exit| exit.share).sum::<f64>() - 1.0).abs() < 1e-12);
            exits
                .iter()
                .for_each(|exit| shares[exit.applications - 1] += exit.share / STEPS as f64);
        }
        shares
    }

    #[test]
    fn each_repetition_before_the_last_is_read_as_often_as_the_prior_says() {
        for draws in [1, 2, 4, 9] {
            let uniform = EarlyExitConfig { draws, ..EarlyExitConfig::default() };
            let geometric =
                EarlyExitConfig { prior: EarlyExitPrior::Geometric { p: 0.5 }, ..uniform };
            let expected = [8.0 / 15.0, 4.0 / 15.0, 2.0 / 15.0, 1.0 / 15.0];
            for (config, expected) in [(uniform, [0.25; 4]), (geometric, expected)] {
                for (share, expected) in shares(config, 5).iter().zip(expected) {
                    // Three standard deviations, 0.5 / sqrt(20000) each.
                    assert!((share - expected).abs() < 0.011, "{config:?}: {share}, {expected}");
                }
            }
        }
    }

    #[test]
    fn every_layer_before_the_last_is_an_exit_with_an_equal_share() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let config = EarlyExitConfig { every: Granularity::Layer, ..EarlyExitConfig::default() };
        let exits = config.exits(3, 2, &mut rng);
        let expected = (1..6).map(|applications| EarlyExit { applications, share: 0.2 });
        assert_eq!(exits, expected.collect::<Vec<_>>());
    }

    #[test]
    fn as_many_draws_as_repetitions_read_each_once_and_one_repetition_has_none_before_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let config = EarlyExitConfig { draws: 3, ..EarlyExitConfig::default() };
        for _ in 0..100 {
            let exits = config.exits(4, 1, &mut rng);
            assert!(exits.iter().map(|exit| exit.applications).eq(1..4), "{exits:?}");
        }
        assert_eq!(config.exits(1, 1, &mut rng), []);
    }
}
