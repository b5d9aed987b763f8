//! The joint law of loss over parameters, repetitions and tokens; phi is the worth of a repetition.

use serde::Serialize;

use crate::error::{Error, Result};

use super::estimate::{Estimate, Resampling, draw_groups, draws, finite, groups};
use super::minimum::{QUICK, THOROUGH};
use super::profile::{Profile, profile};
use super::surface::{Axis, Fitted, NO_TOKENS, Run, Surface};

/// E, A, alpha, B, beta and phi of the surface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameters {
    /// The loss that no size removes.
    #[serde(rename = "E")]
    pub e: Estimate,
    /// The size of the parameters' share.
    #[serde(rename = "A")]
    pub a: Estimate,
    /// How fast the parameters' share falls.
    pub alpha: Estimate,
    /// The size of the tokens' share; absent if tokens do not vary.
    #[serde(rename = "B")]
    pub b: Estimate,
    /// How fast the tokens' share falls; absent if tokens do not vary.
    pub beta: Estimate,
    /// The worth of repetitions: 0 none, 1 that of distinct blocks; absent if they do not vary.
    pub phi: Estimate,
}

/// The closest surface when phi is given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restricted {
    /// The given value.
    pub phi: f64,
    /// The sum of Huber terms.
    pub objective: Option<f64>,
    /// The share of the losses' variance explained.
    pub r_squared: Option<f64>,
}

/// What a fit to the smaller runs expects of the largest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Extrapolation {
    /// Runs of the largest size, which were left out.
    pub rows: usize,
    /// Their mean loss.
    pub measured: Option<f64>,
    /// The mean loss expected.
    pub predicted: Option<f64>,
    /// Mean of |expected / measured - 1|.
    pub relative_error: Option<f64>,
}

/// The surface and how far to trust it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JointReport {
    /// Runs given.
    pub rows: usize,
    /// Distinct settings among them, drawn together by the bootstrap.
    pub cells: usize,
    /// Where residuals stop counting as squares.
    pub delta: f64,
    /// The sum of Huber terms of 1 - fitted/measured.
    pub objective: Option<f64>,
    /// The share of the losses' variance explained.
    pub r_squared: Option<f64>,
    /// With bootstrap intervals over cells.
    pub parameters: Parameters,
    /// How the fit worsens away from the best phi, where repetitions vary.
    pub profile: Option<Profile>,
    /// Repetitions worth nothing, and as much as distinct blocks.
    pub restricted: Vec<Restricted>,
    /// Absent if too few smaller runs are left.
    pub extrapolation: Option<Extrapolation>,
}

/// The grid of the first fit, to a side.
const FINE: usize = 12;

/// The grid of each resample, to a side; the first fit is another start.
const COARSE: usize = 4;

/// Fits the surface, with residuals beyond `delta` (relative) counting linearly.
///
/// # Errors
/// A run makes no sense, or there are fewer settings than parameters.
pub fn fit(runs: &[Run], delta: f64, resampling: Resampling) -> Result<JointReport> {
    check(runs, delta)?;
    let surface = surface(runs, vec![1.0; runs.len()], delta);
    let cells = groups(runs.iter().map(cell));
    if cells.len() < parameters(&surface) {
        let (found, wanted) = (cells.len(), parameters(&surface));
        return Err(Error::input(format!("found {found} settings for {wanted} parameters"))
            .hint("train models of more sizes, repetitions or tokens"));
    }
    let best = surface.fit(FINE, None, THOROUGH);
    let restrict = |phi: f64| {
        let [_, alpha, beta] = surface.axes;
        let given = Surface { axes: [Axis::Fixed(phi), alpha, beta], ..surface.clone() };
        let fitted = given.fit(FINE, None, THOROUGH);
        let (objective, r_squared) = (finite(fitted.objective), r_squared(runs, &fitted));
        Restricted { phi, objective, r_squared }
    };
    let repeated = surface.axes[0] == Axis::Free;
    Ok(JointReport {
        rows: runs.len(),
        cells: cells.len(),
        delta,
        objective: finite(best.objective),
        r_squared: r_squared(runs, &best),
        parameters: bootstrap(&surface, &cells, best, resampling),
        profile: repeated.then(|| profile(&surface, best)),
        restricted: if repeated { vec![restrict(0.0), restrict(1.0)] } else { Vec::new() },
        extrapolation: extrapolate(&surface),
    })
}

fn check(runs: &[Run], delta: f64) -> Result<()> {
    let positive = |value: f64| value.is_finite() && value > 0.0;
    if !positive(delta) {
        return Err(Error::input(format!("found delta {delta}, expected a positive number"))
            .hint("use the median deviation between seeds, relative to the loss"));
    }
    for (index, run) in runs.iter().enumerate() {
        let counted = |count: f64| count.is_finite() && count >= 0.0;
        let sized = counted(run.n_once) && counted(run.n_rec) && run.n_once + run.n_rec > 0.0;
        if !(sized && [run.repetitions, run.tokens, run.loss].into_iter().all(positive)) {
            return Err(Error::input(format!(
                "row {}: found {run:?}, expected counts >= 0 that are not both 0, and positive \
                 repetitions, tokens and loss",
                index + 1
            ))
            .hint("a model without a repeated block has n_rec 0 and 1 repetition"));
        }
    }
    Ok(())
}

/// The surface of these runs without the exponents that would change nothing.
fn surface(runs: &[Run], weights: Vec<f64>, delta: f64) -> Surface<'_> {
    let counted = || runs.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0).map(|(r, _)| r);
    let spread = |of: &dyn Fn(&Run) -> f64| {
        let (low, high) = (f64::INFINITY, f64::NEG_INFINITY);
        let reach = counted().map(of).fold((low, high), |(l, h), x| (l.min(x), h.max(x)));
        reach.1 - reach.0
    };
    // d ln(N_once + r^phi N_rec) / d phi at phi = 1/2: if it is one number, A takes it up.
    let worth = |run: &Run| {
        let repeated = run.repetitions.sqrt() * run.n_rec;
        run.repetitions.ln() * repeated / (run.n_once + repeated)
    };
    let phi = if spread(&worth) > 1e-9 { Axis::Free } else { Axis::Fixed(0.0) };
    let tokens = spread(&|run| run.tokens) > 0.0;
    let beta = if tokens { Axis::Free } else { Axis::Fixed(NO_TOKENS) };
    Surface { runs, weights, delta, axes: [phi, Axis::Free, beta] }
}

/// E, A and alpha always, phi and the two of the tokens where they act.
fn parameters(surface: &Surface) -> usize {
    let free = |axis: usize| usize::from(surface.axes[axis] == Axis::Free);
    3 + free(0) + 2 * free(2)
}

/// The bits of positive numbers are ordered as the numbers are.
fn cell(run: &Run) -> [u64; 4] {
    [run.n_once, run.n_rec, run.repetitions, run.tokens].map(f64::to_bits)
}

fn r_squared(runs: &[Run], fitted: &Fitted) -> Option<f64> {
    let mean = runs.iter().map(|run| run.loss).sum::<f64>() / runs.len() as f64;
    let left: f64 = runs.iter().map(|run| (run.loss - fitted.predict(run)).powi(2)).sum();
    let all: f64 = runs.iter().map(|run| (run.loss - mean).powi(2)).sum();
    finite(1.0 - left / all)
}

fn bootstrap(
    full: &Surface,
    cells: &[Vec<usize>],
    best: Fitted,
    resampling: Resampling,
) -> Parameters {
    let drawn = draws(resampling, |rng| {
        let weights = draw_groups(cells, full.runs.len(), rng);
        let settings = cells.iter().filter(|cell| weights[cell[0]] > 0.0).count();
        let again = surface(full.runs, weights, full.delta);
        let same = again.axes == full.axes && settings >= parameters(full);
        let fitted = same.then(|| again.fit(COARSE, Some(best.exponents), QUICK))?;
        Some((fitted.parameters(), fitted.determined(&again)))
    });
    let (value, determined) = (best.parameters(), best.determined(full));
    let of = |it: usize| {
        if !determined[it] {
            return Estimate::absent("the runs do not tell it apart from the others");
        }
        let told = drawn.iter().filter(|(_, determined)| determined[it]);
        Estimate::among(value[it], told.map(|(value, _)| value[it]).collect(), resampling.resamples)
    };
    let where_it_acts = |axis: usize, it: usize, what: &str| match full.axes[axis] {
        Axis::Free => of(it),
        Axis::Fixed(_) => Estimate::absent(format!("{what} do not vary")),
    };
    Parameters {
        e: of(0),
        a: of(1),
        alpha: of(2),
        b: where_it_acts(2, 3, "tokens"),
        beta: where_it_acts(2, 4, "tokens"),
        phi: where_it_acts(0, 5, "repetitions"),
    }
}

/// Leaves out the runs with most parameters and, among these, most tokens.
fn extrapolate(full: &Surface) -> Option<Extrapolation> {
    let size = |run: &Run| [(run.n_once + run.n_rec).to_bits(), run.tokens.to_bits()];
    let largest = full.runs.iter().map(size).max()?;
    let (left_out, kept): (Vec<Run>, Vec<Run>) =
        full.runs.iter().partition(|run| size(run) == largest);
    let smaller = surface(&kept, vec![1.0; kept.len()], full.delta);
    let settings = groups(kept.iter().map(cell)).len();
    if smaller.axes != full.axes || settings < parameters(full) {
        return None;
    }
    let fitted = smaller.fit(FINE, None, THOROUGH);
    let mean = |of: &dyn Fn(&Run) -> f64| {
        finite(left_out.iter().map(of).sum::<f64>() / left_out.len() as f64)
    };
    Some(Extrapolation {
        rows: left_out.len(),
        measured: mean(&|run| run.loss),
        predicted: mean(&|run| fitted.predict(run)),
        relative_error: mean(&|run| (fitted.predict(run) / run.loss - 1.0).abs()),
    })
}
