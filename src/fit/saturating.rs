//! The saturating law: loss that falls exponentially in the repetitions towards a floor.
//!
//! L(N) = L_inf + Z e^(-zeta N) (Parcae, arXiv 2604.12946). Linear in L_inf and Z, so that only
//! zeta is searched.

use std::collections::BTreeSet;

use rand::Rng;
use serde::Serialize;

use crate::error::{Error, Result};

use super::estimate::{Estimate, Resampling, draws, finite};
use super::minimum::{QUICK, Search, THOROUGH, minimum};
use super::nonnegative::NormalEquations;

/// The loss after some repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reached {
    /// How often the block was applied.
    pub repetitions: f64,
    /// The loss then.
    pub loss: f64,
}

/// The saturating curve. Intervals are of a residual bootstrap.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SaturatingReport {
    /// Points given.
    pub rows: usize,
    /// L_inf: the loss that no repetition removes.
    pub limit: Estimate,
    /// Z: how much repetitions remove in all, counted from none.
    pub fall: Estimate,
    /// zeta: how fast, for each repetition.
    pub rate: Estimate,
    /// Root of the mean squared residual.
    pub residual: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Fitted {
    limit: f64,
    fall: f64,
    rate: f64,
    squares: f64,
}

impl Fitted {
    fn at(&self, repetitions: f64) -> f64 {
        self.limit + self.fall * (-self.rate * repetitions).exp()
    }
}

/// Fits the curve by least squares with L_inf and Z >= 0.
///
/// # Errors
/// A point makes no sense, or there are fewer than three numbers of repetitions.
pub fn fit(points: &[Reached], resampling: Resampling) -> Result<SaturatingReport> {
    let sound = |point: &Reached| {
        point.repetitions.is_finite() && point.repetitions >= 0.0 && point.loss.is_finite()
    };
    if let Some(point) = points.iter().find(|point| !sound(point)) {
        return Err(Error::input(format!("found {point:?}, expected numbers, repetitions >= 0"))
            .hint("leave out repetitions at which the loss diverged"));
    }
    let distinct: BTreeSet<u64> = points.iter().map(|point| point.repetitions.to_bits()).collect();
    if distinct.len() < 3 {
        let found = distinct.len();
        return Err(Error::input(format!(
            "found {found} numbers of repetitions, expected 3 or more"
        ))
        .hint("measure the loss after more repetitions"));
    }
    let best = closest(points, None, THOROUGH);
    let drawn = if points.len() > 3 { redraw(points, best, resampling) } else { Vec::new() };
    let estimate = |of: fn(&Fitted) -> f64| match points.len() {
        3 => Estimate::alone(of(&best), "three points leave no residuals"),
        _ => Estimate::among(of(&best), drawn.iter().map(of).collect(), resampling.resamples),
    };
    let falls = best.fall > 0.0;
    Ok(SaturatingReport {
        rows: points.len(),
        limit: estimate(|fitted| fitted.limit),
        fall: estimate(|fitted| fitted.fall),
        rate: if falls {
            estimate(|fitted| if fitted.fall > 0.0 { fitted.rate } else { f64::NAN })
        } else {
            Estimate::absent("the loss does not fall")
        },
        residual: finite((best.squares / points.len() as f64).sqrt()),
    })
}

/// The fits to losses whose residuals were drawn again, as wide as the noise is expected to be
/// after three numbers were fitted.
fn redraw(points: &[Reached], best: Fitted, resampling: Resampling) -> Vec<Fitted> {
    let count = points.len() as f64;
    let wider = (count / (count - 3.0)).sqrt();
    let residual = |point: &Reached| wider * (point.loss - best.at(point.repetitions));
    let residuals: Vec<f64> = points.iter().map(residual).collect();
    draws(resampling, |rng| {
        let again: Vec<Reached> = points
            .iter()
            .map(|point| Reached {
                loss: best.at(point.repetitions) + residuals[rng.random_range(0..residuals.len())],
                ..*point
            })
            .collect();
        Some(closest(&again, Some(best.rate), QUICK))
    })
}

/// The closest curve, with zeta from a grid over all rates the points could show, or near `start`.
fn closest(points: &[Reached], start: Option<f64>, search: Search) -> Fitted {
    let range = |fold: fn(f64, f64) -> f64| {
        points.iter().map(|point| point.repetitions).reduce(fold).unwrap_or_default()
    };
    let (first, last) = (range(f64::min), range(f64::max));
    let objective = |at: &[f64]| given(points, at[0].exp(), first).squares;
    let start = start.map_or_else(
        || {
            // From a fall that looks straight over the range to one within a hundredth of it.
            let grid = (0..=60).map(|k| (0.01 / (last - first)).ln() + 10.0 * f64::from(k) / 60.0);
            grid.min_by(|a, b| objective(&[*a]).total_cmp(&objective(&[*b]))).unwrap_or_default()
        },
        f64::ln,
    );
    let found = minimum(&[start], &[0.1], search, &objective);
    given(points, found.at[0].exp(), first)
}

/// The closest curve of one zeta.
fn given(points: &[Reached], rate: f64, first: f64) -> Fitted {
    let mut products = NormalEquations::default();
    let falling = |point: &Reached| (-rate * (point.repetitions - first)).exp();
    points.iter().for_each(|point| products.add([1.0, falling(point), 0.0], point.loss, 1.0));
    let [limit, share, _] = products.solve();
    let left = |point: &Reached| (point.loss - limit - share * falling(point)).powi(2);
    let squares = points.iter().map(left).sum();
    // From the first number of repetitions to none.
    Fitted { limit, fall: share * (rate * first).exp(), rate, squares }
}
