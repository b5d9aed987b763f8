//! Sampling: the tokens from which the next one is drawn, and their probabilities.

use rand::Rng;

use super::config::GenerateConfig;
use crate::error::{Error, Result};
use crate::kernels::host;

/// Below this temperature the most likely token is taken: logits divided by less overflow.
const COLD: f64 = 1e-7;

/// Tokens that are sorted first: of a large vocabulary hardly more are ever drawn from.
const HEAD: usize = 512;

/// Tokens that may come next, with their probabilities, which sum to one. The 512 most likely stand
/// first, in order, the others after them.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates(Vec<(u32, f32)>);

impl Candidates {
    /// The candidates that `config` leaves of `logits`, (V), after the tokens `before`, the prompt
    /// included. Filters apply in the order of Hugging Face transformers: repetition penalty,
    /// temperature, top-k, top-p, min-p.
    ///
    /// # Errors
    /// The highest logit is not finite.
    pub fn new(logits: &[f32], before: &[u32], config: &GenerateConfig) -> Result<Self> {
        let mut logits: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        if (config.repetition_penalty - 1.0).abs() > f64::EPSILON {
            penalise(&mut logits, before, config.repetition_penalty as f32);
        }
        let highest = logits.iter().fold(f32::NEG_INFINITY, |most, (_, logit)| most.max(*logit));
        let damaged = logits.iter().any(|(_, logit)| logit.is_nan());
        if damaged || !highest.is_finite() {
            let shown = if damaged { f32::NAN } else { highest };
            return Err(Error::input(format!("the model's highest logit is {shown}")).hint(
                "its weights are damaged or its training diverged; at far more repetitions \
                       than trained, use fewer",
            ));
        }
        if config.temperature < COLD {
            let top = logits.iter().find(|(_, logit)| *logit >= highest).map_or(0, |(id, _)| *id);
            return Ok(Self(vec![(top, 1.0)]));
        }
        let temperature = config.temperature as f32;
        host::vectorised(
            #[inline(always)]
            || {
                for (_, logit) in &mut logits {
                    *logit = host::exp((*logit - highest) / temperature);
                }
            },
        );
        if let Some(k) = config.top_k.filter(|k| *k < logits.len()) {
            logits.select_nth_unstable_by(k, likelier);
            logits.truncate(k);
        }
        head_first(&mut logits);
        if let Some(p) = config.top_p {
            let total: f64 = logits.iter().map(|(_, weight)| f64::from(*weight)).sum();
            let count_within = |logits: &[(u32, f32)]| {
                let mut sum = 0.0;
                let last = logits.iter().position(|(_, weight)| {
                    sum += f64::from(*weight);
                    sum >= p * total
                });
                last.map(|last| last + 1)
            };
            let mut count = count_within(&logits[..HEAD.min(logits.len())]);
            if count.is_none() {
                logits.sort_unstable_by(likelier);
                count = count_within(&logits);
            }
            logits.truncate(count.unwrap_or(logits.len()));
        }
        if let Some(least) = config.min_p {
            let least = least as f32 * logits[0].1;
            logits.retain(|(_, weight)| *weight >= least);
        }
        Ok(Self::normalised(logits))
    }

    fn normalised(mut weights: Vec<(u32, f32)>) -> Self {
        let total: f64 = weights.iter().map(|(_, weight)| f64::from(*weight)).sum();
        for (_, weight) in &mut weights {
            *weight = (f64::from(*weight) / total) as f32;
        }
        Self(weights)
    }

    /// Draws one of the candidates.
    pub fn draw(&self, rng: &mut impl Rng) -> u32 {
        if self.0.len() == 1 {
            return self.0[0].0;
        }
        let place: f64 = rng.random();
        let mut sum = 0.0;
        let drawn = self.0.iter().find(|(_, probability)| {
            sum += f64::from(*probability);
            place < sum
        });
        drawn.or(self.0.last()).map_or(0, |(id, _)| *id)
    }

    /// The probability of a token.
    #[must_use]
    pub fn probability(&self, token: u32) -> f32 {
        self.0.iter().find(|(id, _)| *id == token).map_or(0.0, |(_, probability)| *probability)
    }

    /// Accepts a token that was drawn from `draft`, or draws another, and returns it with whether it
    /// was accepted: the result is distributed as if it had been drawn from `self`. The token is
    /// accepted with probability min(1, p / q), otherwise one is drawn from max(p - q, 0). Leviathan
    /// et al. 2023.
    pub fn verify(&self, token: u32, draft: &Self, rng: &mut impl Rng) -> (u32, bool) {
        let (p, q) = (self.probability(token), draft.probability(token));
        if p >= q || rng.random::<f32>() * q < p {
            return (token, true);
        }
        let by_id: std::collections::HashMap<u32, f32> = draft.0.iter().copied().collect();
        let more = |&(id, p): &(u32, f32)| {
            let more = p - by_id.get(&id).copied().unwrap_or_default();
            (more > 0.0).then_some((id, more))
        };
        let rest: Vec<(u32, f32)> = self.0.iter().filter_map(more).collect();
        if rest.is_empty() {
            // Only rounding makes p smaller than q here.
            return (self.draw(rng), false);
        }
        (Self::normalised(rest).draw(rng), false)
    }
}

/// Most likely first; of equals the one with the lower id.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "sorting gives references")]
fn likelier(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Moves the [`HEAD`] most likely to the front, in order.
fn head_first(weights: &mut [(u32, f32)]) {
    if weights.len() <= 2 * HEAD {
        weights.sort_unstable_by(likelier);
        return;
    }
    weights.select_nth_unstable_by(HEAD, likelier);
    weights[..HEAD].sort_unstable_by(likelier);
}

/// Makes tokens that came before less likely. Keskar et al. 2019.
fn penalise(logits: &mut [(u32, f32)], before: &[u32], penalty: f32) {
    let mut before = before.to_vec();
    before.sort_unstable();
    before.dedup();
    for token in before {
        if let Some((_, logit)) = logits.get_mut(token as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const PROBABILITIES: [f32; 5] = [0.1, 0.4, 0.2, 0.25, 0.05];

    fn logits(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() + 2.0).collect()
    }

    fn warm() -> GenerateConfig {
        GenerateConfig { temperature: 1.0, ..GenerateConfig::default() }
    }

    fn candidates(config: &GenerateConfig) -> Candidates {
        Candidates::new(&logits(&PROBABILITIES), &[], config).unwrap()
    }

    #[track_caller]
    fn assert_near(drawn: &Candidates, expected: &[(u32, f32)]) {
        let ids: Vec<u32> = drawn.0.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, expected.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        for ((_, probability), (_, expected)) in drawn.0.iter().zip(expected) {
            assert!((probability - expected).abs() < 1e-5, "{probability} {expected}");
        }
    }

    #[test]
    fn each_filter_leaves_the_tokens_it_promises() {
        let all = [(1, 0.4), (3, 0.25), (2, 0.2), (0, 0.1), (4, 0.05)];
        assert_near(&candidates(&warm()), &all);
        let two = [(1, 0.4 / 0.65), (3, 0.25 / 0.65)];
        assert_near(&candidates(&GenerateConfig { top_k: Some(2), ..warm() }), &two);
        assert_near(&candidates(&GenerateConfig { top_p: Some(0.6), ..warm() }), &two);
        assert_near(&candidates(&GenerateConfig { min_p: Some(0.6), ..warm() }), &two);
        assert_near(&candidates(&GenerateConfig { top_p: Some(1e-9), ..warm() }), &[(1, 1.0)]);
        assert_near(&candidates(&GenerateConfig::default()), &[(1, 1.0)]);
        // Squared and normalised at half the temperature.
        let squares: f32 = PROBABILITIES.iter().map(|p| p * p).sum();
        let cold = candidates(&GenerateConfig { temperature: 0.5, ..warm() });
        assert_near(&cold, &all.map(|(id, p)| (id, p * p / squares)));
    }

    /// The claims about a small vocabulary hold for one that is not sorted to its end.
    #[test]
    fn a_large_vocabulary_is_filtered_as_if_it_were_in_order() {
        let spread = |scale: f32| -> Vec<f32> {
            (0..5000_u64).map(|id| (id * id * 7919 % 4999) as f32 / 4999.0 * scale).collect()
        };
        // Of the flat one 512 tokens have a ninth of the probability, of the steep one nearly all.
        for logits in [spread(0.5), spread(60.0)] {
            let mut sorted: Vec<(u32, f64)> =
                (0..).zip(&logits).map(|(id, x)| (id, f64::from(x.exp()))).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
            let count_within = |share: f64| {
                let mut sum = 0.0;
                sorted
                    .iter()
                    .position(|(_, w)| {
                        sum += w / total;
                        sum >= share
                    })
                    .unwrap()
                    + 1
            };
            let above = sorted.iter().filter(|(_, w)| *w >= 0.7 * sorted[0].1).count();
            for (config, count) in [
                (warm(), 5000),
                (GenerateConfig { top_k: Some(2000), ..warm() }, 2000),
                (GenerateConfig { top_p: Some(0.05), ..warm() }, count_within(0.05)),
                (GenerateConfig { top_p: Some(0.6), ..warm() }, count_within(0.6)),
                (GenerateConfig { min_p: Some(0.7), ..warm() }, above),
            ] {
                let Candidates(drawn) = Candidates::new(&logits, &[], &config).unwrap();
                assert!(drawn.len().abs_diff(count) <= 1, "{} {count}", drawn.len());
                let head = drawn.len().min(HEAD);
                assert!(
                    drawn[..head].iter().zip(&sorted).all(|(drawn, sorted)| drawn.0 == sorted.0)
                );
                let kept_weight: f64 = sorted[..drawn.len()].iter().map(|(_, weight)| weight).sum();
                let error = |(id, p): &(u32, f32)| {
                    (f64::from(*p) / (f64::from(logits[*id as usize].exp()) / kept_weight) - 1.0)
                        .abs()
                };
                assert!(drawn.iter().map(error).fold(0.0, f64::max) < 1e-4);
                let mut ids: Vec<u32> = drawn.iter().map(|(id, _)| *id).collect();
                ids.sort_unstable();
                ids.dedup();
                assert_eq!(ids.len(), drawn.len());
            }
        }
    }

    #[test]
    fn a_token_that_came_before_is_less_likely() {
        let config = GenerateConfig { repetition_penalty: 2.0, ..GenerateConfig::default() };
        let penalised = Candidates::new(&[1.0, 1.9, -0.5], &[1, 1, 9], &config).unwrap();
        assert_eq!(penalised.0, [(0, 1.0)]);
        let penalised = Candidates::new(&[-1.0, -0.6, -3.0], &[1], &config).unwrap();
        assert_eq!(penalised.0, [(0, 1.0)]);
    }

    #[test]
    fn logits_that_are_not_numbers_are_refused_and_of_equal_ones_the_first_is_taken() {
        for damaged in [[0.0, f32::NAN], [0.0, f32::INFINITY], [f32::NEG_INFINITY; 2]] {
            assert!(Candidates::new(&damaged, &[], &warm()).is_err());
        }
        let equal = Candidates::new(&[1.0, 3.0, 3.0], &[], &GenerateConfig::default()).unwrap();
        assert_eq!(equal.0, [(1, 1.0)]);
    }

    /// Chi-square of counts against probabilities.
    fn chi_square(counts: &[f64], probabilities: &[f32]) -> f64 {
        let draws: f64 = counts.iter().sum();
        let terms = counts.iter().zip(probabilities).map(|(count, p)| {
            let expected = f64::from(*p) * draws;
            (count - expected).powi(2) / expected
        });
        terms.sum()
    }

    #[test]
    fn verified_tokens_are_distributed_as_the_target() {
        let target = candidates(&warm());
        let draft = logits(&[0.35, 0.1, 0.3, 0.05, 0.2]);
        let draft = Candidates::new(&draft, &[], &GenerateConfig { top_k: Some(4), ..warm() });
        let (draft, mut rng) = (draft.unwrap(), ChaCha8Rng::seed_from_u64(7));
        let (mut counts, mut accepted_draws) = ([0.0; 5], 0.0);
        for _ in 0..100_000 {
            let token = draft.draw(&mut rng);
            let (token, accepted) = target.verify(token, &draft, &mut rng);
            counts[token as usize] += 1.0;
            accepted_draws += f64::from(u8::from(accepted));
        }
        // 0.999 of chi-square with 4 degrees of freedom lies below 18.5.
        assert!(chi_square(&counts, &PROBABILITIES) < 18.5, "{counts:?}");
        // sum of min(p, q), q without token 3: 0.1 + 0.1 / 0.95 + 0.2 + 0.05.
        let rate = accepted_draws / 100_000.0;
        assert!((rate - (0.35 + 0.1 / 0.95)).abs() < 0.01, "{rate}");
        // The test can fail: the draft alone is another distribution.
        let mut alone = [0.0; 5];
        (0..1000).for_each(|_| alone[draft.draw(&mut rng) as usize] += 1.0);
        assert!(chi_square(&alone, &PROBABILITIES) > 18.5);
    }

    #[test]
    fn greedy_keeps_only_the_most_likely_token() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let greedy = GenerateConfig::default();
        let target = Candidates::new(&logits(&PROBABILITIES), &[], &greedy).unwrap();
        let draft = |top: usize| {
            let mut logits = vec![0.0; 5];
            logits[top] = 1.0;
            Candidates::new(&logits, &[], &greedy).unwrap()
        };
        assert_eq!(target.verify(1, &draft(1), &mut rng), (1, true));
        assert_eq!(target.verify(3, &draft(3), &mut rng), (1, false));
    }
}
