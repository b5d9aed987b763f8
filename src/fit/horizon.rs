//! The horizon: the length of chain that is answered rightly half of the time.
//!
//! -ln accuracy(T) = (lambda T)^kappa. Steps that fail independently give kappa 1 (arXiv
//! 2509.09677); errors that breed errors give more, errors that are mended less.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use rand_distr::Binomial;
use serde::Serialize;

use crate::error::{Error, Result};

use super::estimate::{Estimate, Resampling, draws, finite};
use super::minimum::{QUICK, Search, THOROUGH, minimum};

/// Answers at one length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answers {
    /// Steps in the chain.
    pub length: f64,
    /// Right answers among the trials.
    pub correct: u64,
    /// All answers.
    pub trials: u64,
}

/// How accuracy falls with length. Intervals are of a parametric bootstrap: answers are drawn
/// again from the fitted accuracies, which leaves out what differs from seed to seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HorizonReport {
    /// Lengths given, repeated ones counted each time.
    pub rows: usize,
    /// 1 if steps fail independently.
    pub kappa: Estimate,
    /// The rate of failure of one step, if kappa is 1.
    pub lambda: Estimate,
    /// The length of accuracy one half.
    pub horizon_50: Estimate,
    /// ln of the binomial likelihood, without the term that only counts orders.
    pub log_likelihood: Option<f64>,
}

/// ln kappa and ln of the length of accuracy one half, which hardly depend on one another.
type Point = [f64; 2];

/// Fits kappa and lambda by binomial maximum likelihood.
///
/// # Errors
/// There are no rows, or a length or count makes no sense.
pub fn fit(rows: &[Answers], resampling: Resampling) -> Result<HorizonReport> {
    check(rows)?;
    if !determined(rows) {
        let absent = || Estimate::absent("needs two lengths whose accuracy is neither 0 nor 1");
        return Ok(HorizonReport {
            rows: rows.len(),
            kappa: absent(),
            lambda: absent(),
            horizon_50: absent(),
            log_likelihood: None,
        });
    }
    let best = most_likely(rows, start(rows), THOROUGH);
    let drawn = draws(resampling, |rng| {
        let again = answers(rows, best, rng)?;
        determined(&again).then(|| most_likely(&again, best, QUICK))
    });
    let estimate = |of: fn(Point) -> f64| {
        Estimate::among(of(best), drawn.iter().copied().map(of).collect(), resampling.resamples)
    };
    Ok(HorizonReport {
        rows: rows.len(),
        kappa: estimate(|[kappa, _]| kappa.exp()),
        lambda: estimate(|[kappa, half]| (LN_2.ln() / kappa.exp() - half).exp()),
        horizon_50: estimate(|[_, half]| half.exp()),
        log_likelihood: finite(ln_likelihood(rows, best)),
    })
}

fn check(rows: &[Answers]) -> Result<()> {
    if rows.is_empty() {
        return Err(Error::input("found no rows, expected at least one")
            .hint("measure the accuracy at two or more lengths"));
    }
    for (index, row) in rows.iter().enumerate() {
        let sound = row.length.is_finite() && row.length > 0.0 && row.correct <= row.trials;
        if !(sound && row.trials > 0) {
            return Err(Error::input(format!(
                "row {}: found length {} with {} correct of {}, expected a positive length and \
                 correct <= trials with trials > 0",
                index + 1,
                row.length,
                row.correct,
                row.trials
            ))
            .hint("leave out lengths without trials"));
        }
    }
    Ok(())
}

/// Two lengths of mixed answers hold both numbers; with fewer the likelihood may rise for ever.
fn determined(rows: &[Answers]) -> bool {
    let mut lengths: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
    for row in rows {
        let length = lengths.entry(row.length.to_bits()).or_default();
        length.0 |= row.correct > 0;
        length.1 |= row.correct < row.trials;
    }
    lengths.values().filter(|length| length.0 && length.1).count() > 1
}

/// Independent errors with the mean rate of failure.
fn start(rows: &[Answers]) -> Point {
    let steps: f64 = rows.iter().map(|row| row.trials as f64 * row.length).sum();
    let wrong: f64 = rows.iter().map(|row| (row.trials - row.correct) as f64).sum();
    [0.0, (LN_2 * steps / wrong).ln()]
}

/// (lambda T)^kappa.
fn hazard(length: f64, [kappa, half]: Point) -> f64 {
    LN_2 * (kappa.exp() * (length.ln() - half)).exp()
}

fn ln_likelihood(rows: &[Answers], point: Point) -> f64 {
    let times = |count: u64, value: f64| if count == 0 { 0.0 } else { count as f64 * value };
    let one = |row: &Answers| {
        let hazard = hazard(row.length, point);
        times(row.correct, -hazard) + times(row.trials - row.correct, (-(-hazard).exp_m1()).ln())
    };
    rows.iter().map(one).sum()
}

fn most_likely(rows: &[Answers], start: Point, search: Search) -> Point {
    let objective = |at: &[f64]| -ln_likelihood(rows, [at[0], at[1]]);
    let at = minimum(&start, &[0.2, 0.2], search, &objective).at;
    [at[0], at[1]]
}

/// As many answers at the same lengths, right as often as fitted.
fn answers(rows: &[Answers], point: Point, rng: &mut ChaCha8Rng) -> Option<Vec<Answers>> {
    let one = |row: &Answers| {
        let accuracy = (-hazard(row.length, point)).exp();
        let correct = Binomial::new(row.trials, accuracy).ok()?.sample(rng);
        Some(Answers { correct, ..*row })
    };
    rows.iter().map(one).collect()
}
