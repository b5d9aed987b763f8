//! The number of repetitions of a training step: fixed or sampled, per step or per token.

use rand::Rng;
use rand_distr::{Distribution, LogNormal, Poisson};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Distribution of the number of repetitions of a training step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RepetitionSampling {
    /// Always N.
    #[default]
    Fixed,
    /// Uniform over a range.
    Uniform {
        /// Smallest number of repetitions.
        least: usize,
        /// Largest number of repetitions.
        most: usize,
    },
    /// Poisson with a log-normal rate of mean N, at least 1. Geiping et al. 2025.
    PoissonLognormal {
        /// Standard deviation of the logarithm of the rate.
        sigma: f64,
        /// Largest number of repetitions; larger samples are clipped to it.
        most: usize,
    },
}

/// Repetitions during training: `[depth]` of a recipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DepthConfig {
    /// Distribution of the number of repetitions.
    #[serde(alias = "law")]
    #[schemars(extend("x-alias" = "law"))]
    pub sampling: RepetitionSampling,
    /// Whether one number is sampled for a step or one for each token.
    #[serde(alias = "drawn_for")]
    #[schemars(extend("x-alias" = "drawn_for"))]
    pub sampled_per: SampledPer,
    /// Fraction of the run over which the number grows linearly from 1 to the sampled one.
    pub ramp: f64,
    /// Truncated backpropagation: number of last repetitions that get gradients; 0: all.
    pub backprop_repetitions: usize,
    /// Activation checkpointing: whether the backward pass recomputes the activations of a
    /// repetition instead of storing them.
    pub recompute: Recompute,
}

/// What a sampled number of repetitions applies to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SampledPer {
    /// All tokens of a step.
    #[default]
    Step,
    /// Each token, once the student runs on its own states. A token that has reached its depth keeps
    /// its state, and the others attend to the keys and values of its last repetition, as decoding
    /// does with `--kv last`. Its output is read after its last repetition, and its states are
    /// compared as in a step of that depth.
    Token,
}

/// Activation checkpointing of the repetitions. Chen et al. 2016.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Checkpointing only if the activations of all repetitions take more than half of the free
    /// memory. Decided when a run begins, on a CPU under Linux; elsewhere activations are stored.
    #[default]
    Auto,
    /// Activations are recomputed in the backward pass: memory hardly grows with the repetitions,
    /// and a step costs one more forward pass, two from 17 repetitions on. Gradients are the same
    /// up to rounding.
    Always,
    /// All activations are stored.
    Never,
}

impl DepthConfig {
    /// Refuses invalid ranges.
    pub(super) fn validate(&self) -> Result<()> {
        match self.sampling {
            RepetitionSampling::Uniform { least, most } if least == 0 || least > most => {
                Err(Error::input(format!(
                    "depth.sampling ranges from {least} to {most}: expected 1 <= least <= most"
                )))
            }
            RepetitionSampling::PoissonLognormal { sigma, most } if sigma <= 0.0 || most == 0 => {
                Err(Error::input("depth.sampling needs sigma above 0 and most of 1 or more"))
            }
            RepetitionSampling::Fixed if self.sampled_per == SampledPer::Token => {
                Err(Error::input("depth.sampled_per is \"token\", but depth.sampling is \"fixed\"")
                    .hint("write depth.sampling = { kind = \"uniform\", least = 1, most = 8 }"))
            }
            _ if !(0.0..=1.0).contains(&self.ramp) => {
                Err(Error::input(format!("depth.ramp is {}, expected 0 to 1", self.ramp)))
            }
            _ => Ok(()),
        }
    }
}

/// Samples the repetitions of a step at `progress`, 0 to 1, for a student made for `repetitions`.
pub(super) fn sample(
    config: &DepthConfig,
    repetitions: usize,
    progress: f64,
    rng: &mut impl Rng,
) -> usize {
    let sampled = match config.sampling {
        RepetitionSampling::Fixed => repetitions,
        RepetitionSampling::Uniform { least, most } => rng.random_range(least..=most),
        RepetitionSampling::PoissonLognormal { sigma, most } => {
            // n = 1 + Poisson(rate), ln rate ~ Normal(ln(N - 1) - sigma^2 / 2, sigma).
            let mean = (repetitions as f64 - 1.0).max(0.5).ln() - sigma * sigma / 2.0;
            let rate = LogNormal::new(mean, sigma).map_or(1.0, |law| law.sample(rng));
            let more = Poisson::new(rate.max(1e-6)).map_or(0.0, |law| law.sample(rng));
            (1 + more as usize).min(most)
        }
    };
    if config.ramp <= 0.0 || progress >= config.ramp {
        return sampled;
    }
    ((sampled as f64 * progress / config.ramp).round() as usize).clamp(1, sampled)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Mean, smallest and largest of 20000 samples for N = 8.
    fn summary(sampling: RepetitionSampling) -> (f64, usize, usize) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let config = DepthConfig { sampling, ..DepthConfig::default() };
        let samples: Vec<usize> = (0..20_000).map(|_| sample(&config, 8, 1.0, &mut rng)).collect();
        let sum: usize = samples.iter().sum();
        let least = samples.iter().min().copied().unwrap_or(0);
        (sum as f64 / 20_000.0, least, samples.iter().max().copied().unwrap_or(0))
    }

    #[test]
    fn each_distribution_has_the_mean_and_the_range_it_names() {
        assert_eq!(summary(RepetitionSampling::Fixed), (8.0, 8, 8));
        let (uniform, least, most) = summary(RepetitionSampling::Uniform { least: 2, most: 6 });
        assert!((uniform - 4.0).abs() < 0.05 && least == 2 && most == 6);
        let (poisson, least, most) =
            summary(RepetitionSampling::PoissonLognormal { sigma: 0.5, most: 100 });
        assert!((poisson - 8.0).abs() < 0.15, "{poisson}");
        assert!(least >= 1 && most > 16);
    }

    #[test]
    fn the_ramp_grows_from_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let config = DepthConfig { ramp: 0.5, ..DepthConfig::default() };
        assert_eq!(sample(&config, 8, 0.0, &mut rng), 1);
        assert_eq!(sample(&config, 8, 0.25, &mut rng), 4);
        assert_eq!(sample(&config, 8, 0.5, &mut rng), 8);
    }
}
