//! How many repetitions does this step take?

use rand::Rng;
use rand_distr::{Distribution, LogNormal, Poisson};

use super::config::{DepthConfig, DepthLaw};

/// Draws the repetitions of a step at `progress`, 0 to 1, for a student made for `repetitions`.
pub(super) fn draw(
    config: &DepthConfig,
    repetitions: usize,
    progress: f64,
    rng: &mut impl Rng,
) -> usize {
    let drawn = match config.law {
        DepthLaw::Fixed => repetitions,
        DepthLaw::Uniform { least, most } => rng.random_range(least..=most),
        DepthLaw::PoissonLognormal { sigma, most } => {
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

    fn mean(law: DepthLaw) -> (f64, usize, usize) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let config = DepthConfig { law, ..DepthConfig::default() };
        let drawn: Vec<usize> = (0..20_000).map(|_| draw(&config, 8, 1.0, &mut rng)).collect();
        let sum: usize = drawn.iter().sum();
        let least = drawn.iter().min().copied().unwrap_or(0);
        (sum as f64 / 20_000.0, least, drawn.iter().max().copied().unwrap_or(0))
    }

    #[test]
    fn each_law_has_the_mean_and_the_range_it_names() {
        assert_eq!(mean(DepthLaw::Fixed), (8.0, 8, 8));
        let (uniform, least, most) = mean(DepthLaw::Uniform { least: 2, most: 6 });
        assert!((uniform - 4.0).abs() < 0.05 && least == 2 && most == 6);
        let (poisson, least, most) = mean(DepthLaw::PoissonLognormal { sigma: 0.5, most: 100 });
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
