//! After which repetitions before the last is the student read out as well?

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::granularity::Every;
use super::weight_schedule::WeightSchedule;
use crate::error::{Error, Result};

/// How often each repetition before the last is read out: a fixed law over 1 to N - 1, where N is
/// the number of repetitions of the step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ExitPrior {
    /// Each as often.
    #[default]
    Uniform,
    /// Repetition n in proportion to (1 - p)^(n - 1): the early ones more often.
    Geometric {
        /// Between 0 and 1.
        p: f64,
    },
}

/// What a repetition before the last is to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExitTarget {
    /// What its teacher says in the end.
    #[default]
    Answer,
    /// What its teacher's head reads out of the layer that the repetition stands for
    /// (nostalgebraist 2020, the logit lens): steps of a chain stay steps.
    Layer,
}

/// Supervision of the repetitions before the last: `[loss.exits]`. Some are drawn at every step and
/// read out through coda, last norm and head, with the weights of `kl` and `cross_entropy`. Without
/// it only the last repetition has to make sense to the coda.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExitsConfig {
    /// Of the mean over the drawn repetitions; 0: none is drawn.
    pub weight: WeightSchedule,
    /// Repetitions read out at a step besides the last, at most as many as there are before it.
    pub draws: usize,
    /// How often each is drawn.
    pub prior: ExitPrior,
    /// What they are to say; a layer has no right answer, so `cross_entropy` asks nothing of them.
    pub imitate: ExitTarget,
    /// Whether the drawn repetitions are read out at their end, or every layer of all repetitions.
    pub every: Every,
}

impl Default for ExitsConfig {
    fn default() -> Self {
        let (draws, prior, imitate) = (1, ExitPrior::Uniform, ExitTarget::Answer);
        let every = Every::Repetition;
        Self { weight: WeightSchedule::Constant(0.0), draws, prior, imitate, every }
    }
}

/// A repetition that is read out: how many have been applied, and its share of the mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exit {
    pub(super) after: usize,
    pub(super) share: f64,
}

impl ExitsConfig {
    /// Refuses draws and priors that mean nothing.
    pub(super) fn validate(&self) -> Result<()> {
        if self.draws == 0 {
            return Err(Error::input("loss.exits.draws is 0, expected 1 or more")
                .hint("write loss.exits.weight = 0 to read out the last repetition alone"));
        }
        match self.prior {
            ExitPrior::Geometric { p } if !(p > 0.0 && p < 1.0) => Err(Error::input(format!(
                "loss.exits.prior.p is {p}, expected a number between 0 and 1"
            ))),
            _ => Ok(()),
        }
    }

    /// The probability of each of the repetitions 1 to N - 1.
    fn probabilities(&self, repetitions: usize) -> Vec<f64> {
        let weight = |n: usize| match self.prior {
            ExitPrior::Uniform => 1.0,
            ExitPrior::Geometric { p } => (1.0 - p).powi(n as i32 - 1),
        };
        let weights: Vec<f64> = (1..repetitions).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// Draws the repetitions to read out before the last of `repetitions`, rising.
    ///
    /// One number is drawn, and `draws` points a step apart pick from the cumulative law: over
    /// steps a repetition is read as often as the prior says, in one step no more than once more or
    /// less. One that is picked twice counts twice.
    pub(super) fn draw(&self, repetitions: usize, rng: &mut impl Rng) -> Vec<Exit> {
        let probabilities = self.probabilities(repetitions);
        let draws = self.draws.min(probabilities.len());
        let offset = rng.random::<f64>();
        let mut exits: Vec<Exit> = Vec::with_capacity(draws);
        let (mut after, mut passed) = (1, probabilities.first().copied().unwrap_or(1.0));
        for draw in 0..draws {
            let point = (draw as f64 + offset) / draws as f64;
            while point >= passed && after < probabilities.len() {
                passed += probabilities[after];
                after += 1;
            }
            let share = 1.0 / draws as f64;
            match exits.last_mut().filter(|exit| exit.after == after) {
                Some(exit) => exit.share += share,
                None => exits.push(Exit { after, share }),
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

    /// How much of the mean each repetition has over many steps, and whether the shares of each
    /// step add up to one and rise.
    fn shares(config: ExitsConfig, repetitions: usize) -> Vec<f64> {
        const STEPS: usize = 20_000;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut shares = vec![0.0; repetitions - 1];
        for _ in 0..STEPS {
            let exits = config.draw(repetitions, &mut rng);
            assert!(exits.windows(2).all(|pair| pair[0].after < pair[1].after));
            assert!((exits.iter().map(|exit| exit.share).sum::<f64>() - 1.0).abs() < 1e-12);
            exits.iter().for_each(|exit| shares[exit.after - 1] += exit.share / STEPS as f64);
        }
        shares
    }

    #[test]
    fn each_repetition_before_the_last_is_read_as_often_as_the_prior_says() {
        for draws in [1, 2, 4, 9] {
            let uniform = ExitsConfig { draws, ..ExitsConfig::default() };
            let geometric = ExitsConfig { prior: ExitPrior::Geometric { p: 0.5 }, ..uniform };
            let expected = [8.0 / 15.0, 4.0 / 15.0, 2.0 / 15.0, 1.0 / 15.0];
            for (config, expected) in [(uniform, [0.25; 4]), (geometric, expected)] {
                for (share, expected) in shares(config, 5).iter().zip(expected) {
                    // Of 20000 draws: three standard deviations of 0.5 / sqrt(20000).
                    assert!((share - expected).abs() < 0.011, "{config:?}: {share}, {expected}");
                }
            }
        }
    }

    #[test]
    fn as_many_draws_as_repetitions_read_each_once_and_one_repetition_has_none_before_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let config = ExitsConfig { draws: 3, ..ExitsConfig::default() };
        for _ in 0..100 {
            let exits = config.draw(4, &mut rng);
            assert!(exits.iter().map(|exit| exit.after).eq(1..4), "{exits:?}");
        }
        assert_eq!(config.draw(1, &mut rng), []);
    }
}
