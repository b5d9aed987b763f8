//! Confidence intervals of means over documents, by the percentile bootstrap. Efron 1979.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A 95 % interval of a mean, over documents of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The 2.5 % quantile.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub low: f64,
    /// The 97.5 % quantile.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub high: f64,
}

impl Interval {
    /// The interval of an increasing function of the mean.
    #[must_use]
    pub fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        Self { low: increasing(self.low), high: increasing(self.high) }
    }
}

/// Sums over the tokens of one document, one for each quantity.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct DocumentSums {
    pub(super) tokens: f64,
    pub(super) sums: Vec<f64>,
}

/// The mean per token of every quantity.
pub(super) fn means<'a>(documents: impl Iterator<Item = &'a DocumentSums>) -> Vec<f64> {
    let (mut tokens, mut sums) = (0.0, Vec::new());
    for document in documents {
        tokens += document.tokens;
        sums.resize(document.sums.len(), 0.0);
        for (sum, value) in sums.iter_mut().zip(&document.sums) {
            *sum += value;
        }
    }
    sums.iter().map(|sum| sum / tokens).collect()
}

/// The interval of every mean per token: as many documents are drawn with replacement, `samples`
/// times. None when there are fewer than two documents.
pub(super) fn intervals(
    documents: &[DocumentSums],
    samples: usize,
    seed: u64,
) -> Vec<Option<Interval>> {
    let quantities = documents.first().map_or(0, |document| document.sums.len());
    if documents.len() < 2 || samples == 0 {
        return vec![None; quantities];
    }
    let draw = |sample: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(sample as u64);
        means(documents.iter().map(|_| &documents[rng.random_range(0..documents.len())]))
    };
    let drawn: Vec<Vec<f64>> = (0..samples).into_par_iter().map(draw).collect();
    let interval = |quantity: usize| {
        let mut values: Vec<f64> = drawn.iter().map(|means| means[quantity]).collect();
        values.sort_unstable_by(f64::total_cmp);
        Some(Interval { low: quantile(&values, 0.025), high: quantile(&values, 0.975) })
    };
    (0..quantities).map(interval).collect()
}

/// The quantile of sorted values, linear between two of them.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let place = fraction * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(tokens: f64, mean: f64) -> DocumentSums {
        DocumentSums { tokens, sums: vec![mean * tokens] }
    }

    #[test]
    fn an_interval_is_as_wide_as_the_normal_law_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let documents: Vec<_> =
            (0..400).map(|_| document(100.0, rng.random_range(0.0..1.0))).collect();
        let interval = intervals(&documents, 4000, 2)[0].unwrap();
        // Uniform on 0..1: deviation 1/sqrt(12); of the mean of 400: 0.01443; 2 * 1.96 of that.
        assert!((interval.high - interval.low - 0.0566).abs() < 0.006, "{interval:?}");
        let mean = means(documents.iter())[0];
        assert!(interval.low < mean && mean < interval.high);
        assert_eq!(intervals(&documents, 4000, 2), intervals(&documents, 4000, 2));
    }

    #[test]
    fn one_document_has_no_interval() {
        assert_eq!(intervals(&[document(5.0, 1.0)], 10, 0), [None]);
    }

    #[test]
    fn a_long_document_counts_for_its_tokens() {
        let mean = means([document(1.0, 4.0), document(3.0, 0.0)].iter())[0];
        assert!((mean - 1.0).abs() < 1e-12);
    }
}
