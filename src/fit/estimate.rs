//! Estimates with bootstrap intervals.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

/// How often to draw again, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// How many sets are drawn.
    pub resamples: usize,
    /// Fixes every draw.
    pub seed: u64,
}

/// A number with the middle 95 % of what other draws would have given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// The number, absent where the data cannot tell.
    pub estimate: Option<f64>,
    /// 2.5 % lie below.
    pub low: Option<f64>,
    /// 2.5 % lie above.
    pub high: Option<f64>,
    /// Why something is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Estimate {
    /// Nothing but the reason why.
    pub(super) fn absent(note: impl Into<String>) -> Self {
        Self { estimate: None, low: None, high: None, note: Some(note.into()) }
    }

    /// A number without an interval, and why.
    pub(super) fn alone(estimate: f64, note: impl Into<String>) -> Self {
        Self { estimate: finite(estimate), ..Self::absent(note) }
    }

    /// A number with the percentile interval of its draws (Efron 1979), if at least half of
    /// those wanted succeeded.
    pub(super) fn among(estimate: f64, mut draws: Vec<f64>, wanted: usize) -> Self {
        draws.retain(|draw| draw.is_finite());
        if draws.len() < 2 || 2 * draws.len() < wanted {
            let note = format!("{} of {wanted} resamples gave an estimate", draws.len());
            return Self::alone(estimate, note);
        }
        draws.sort_unstable_by(f64::total_cmp);
        Self {
            estimate: finite(estimate),
            low: Some(quantile(&draws, 0.025)),
            high: Some(quantile(&draws, 0.975)),
            note: None,
        }
    }
}

/// Only a finite number is written down.
pub(super) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Between two values the line that joins them.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let place = fraction * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// What each draw gave that gave anything. Every draw has a stream of its own, so that the
/// number of threads changes nothing.
pub(super) fn draws<T: Send>(
    resampling: Resampling,
    draw: impl Fn(&mut ChaCha8Rng) -> Option<T> + Sync,
) -> Vec<T> {
    let one = |stream: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(resampling.seed);
        rng.set_stream(stream as u64);
        draw(&mut rng)
    };
    (0..resampling.resamples).into_par_iter().filter_map(one).collect()
}

/// The rows that share a key, in the order of the keys.
pub(super) fn groups<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (row, key) in keys.enumerate() {
        groups.entry(key).or_default().push(row);
    }
    groups.into_values().collect()
}

/// As many groups as there are, with replacement: how often each of the rows was drawn.
pub(super) fn draw_groups(groups: &[Vec<usize>], rows: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut times = vec![0.0; rows];
    for _ in groups {
        for row in &groups[rng.random_range(0..groups.len())] {
            times[*row] += 1.0;
        }
    }
    times
}
