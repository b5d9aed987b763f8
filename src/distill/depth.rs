//! How many repetitions does this step take?

use rand::Rng;
use rand_distr::{Distribution, LogNormal, Poisson};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the number of repetitions of a training step is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RepetitionSampling {
    /// Always N.
    #[default]
    Fixed,
    /// Any number in a range, each as often.
    Uniform {
        /// Fewest.
        least: usize,
        /// Most.
        most: usize,
    },
    /// Poisson with a log-normal rate of mean N, at least 1. Geiping et al. 2025.
    PoissonLognormal {
        /// Spread of the logarithm of the rate.
        sigma: f64,
        /// Most.
        most: usize,
    },
}

/// Depth while training: `[depth]` of a recipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DepthConfig {
    /// How repetitions are drawn.
    #[serde(alias = "law")]
    pub sampling: RepetitionSampling,
    /// For whom they are drawn.
    pub drawn_for: DrawnFor,
    /// Fraction of the run over which the drawn number grows from 1 to the sampled number.
    pub ramp: f64,
    /// Gradients flow through so many of the last repetitions; 0: through all.
    pub backprop_repetitions: usize,
    /// Whether the graph of a repetition is computed anew on the way back instead of kept.
    pub recompute: Recompute,
}

/// Who goes through the core as often as was drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrawnFor {
    /// All tokens of a step.
    #[default]
    Step,
    /// Each token, from when the loop is closed: one past its depth keeps its state, and those that
    /// go on read the keys and values of its last repetition, as decoding does with `--kv last`. It
    /// is read out where it stopped, and compared until there as in a step of its depth.
    Token,
}

/// What becomes of the graph of a repetition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// It is kept while all graphs fit into half of the free memory; decided when a run begins, on
    /// a CPU whose system tells (Linux), else it is kept.
    #[default]
    Auto,
    /// It is computed anew: memory hardly grows with the repetitions, a step costs one more
    /// forward pass, from 17 repetitions on two. Gradients are the same but for rounding.
    Always,
    /// It is kept.
    Never,
}

impl DepthConfig {
    /// Refuses ranges that mean nothing.
    pub(super) fn validate(&self) -> Result<()> {
        match self.sampling {
            RepetitionSampling::Uniform { least, most } if least == 0 || least > most => {
                Err(Error::input(format!(
                    "depth.sampling draws from {least} to {most}: expected 1 or more, rising"
                )))
            }
            RepetitionSampling::PoissonLognormal { sigma, most } if sigma <= 0.0 || most == 0 => {
                Err(Error::input("depth.sampling needs a sigma above 0 and a most of 1 or more"))
            }
            RepetitionSampling::Fixed if self.drawn_for == DrawnFor::Token => {
                Err(Error::input("depth.drawn_for is \"token\", and depth.sampling draws nothing")
                    .hint("write depth.sampling = { kind = \"uniform\", least = 1, most = 8 }"))
            }
            _ if !(0.0..=1.0).contains(&self.ramp) => {
                Err(Error::input("depth.ramp is a fraction of the run, 0 to 1"))
            }
            _ => Ok(()),
        }
    }
}

/// Draws the repetitions of a step at `progress`, 0 to 1, for a student made for `repetitions`.
pub(super) fn draw(
    config: &DepthConfig,
    repetitions: usize,
    progress: f64,
    rng: &mut impl Rng,
) -> usize {
    let drawn = match config.sampling {
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
        return drawn;
    }
    ((drawn as f64 * progress / config.ramp).round() as usize).clamp(1, drawn)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn mean(law: RepetitionSampling) -> (f64, usize, usize) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let config = DepthConfig { sampling: law, ..DepthConfig::default() };
        let drawn: Vec<usize> = (0..20_000).map(|_| draw(&config, 8, 1.0, &mut rng)).collect();
        let sum: usize = drawn.iter().sum();
        let least = drawn.iter().min().copied().unwrap_or(0);
        (sum as f64 / 20_000.0, least, drawn.iter().max().copied().unwrap_or(0))
    }

    #[test]
    fn each_law_has_the_mean_and_the_range_it_names() {
        assert_eq!(mean(RepetitionSampling::Fixed), (8.0, 8, 8));
        let (uniform, least, most) = mean(RepetitionSampling::Uniform { least: 2, most: 6 });
        assert!((uniform - 4.0).abs() < 0.05 && least == 2 && most == 6);
        let (poisson, least, most) =
            mean(RepetitionSampling::PoissonLognormal { sigma: 0.5, most: 100 });
        assert!((poisson - 8.0).abs() < 0.15, "{poisson}");
        assert!(least >= 1 && most > 16);
    }

    #[test]
    fn the_ramp_grows_from_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let config = DepthConfig { ramp: 0.5, ..DepthConfig::default() };
        assert_eq!(draw(&config, 8, 0.0, &mut rng), 1);
        assert_eq!(draw(&config, 8, 0.25, &mut rng), 4);
        assert_eq!(draw(&config, 8, 0.5, &mut rng), 8);
    }
}
