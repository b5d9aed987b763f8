//! The profile likelihood interval of phi.

use serde::Serialize;

use super::estimate::finite;
use super::minimum::QUICK;
use super::surface::{Axis, Fitted, Surface};

/// The closest surface at one phi.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ProfilePoint {
    /// The given value.
    pub phi: f64,
    /// The sum of Huber terms.
    pub objective: Option<f64>,
}

/// The profile likelihood of phi.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Where the likelihood ratio passes the 95 % point below; absent if it does not within the
    /// curve.
    pub low: Option<f64>,
    /// The same above.
    pub high: Option<f64>,
    /// The curve itself.
    pub curve: Vec<ProfilePoint>,
}

/// 95 % of chi-square with one degree of freedom lie below.
const CHI_SQUARE: f64 = 3.841_458_820_694_124;

/// Relative residuals below this are rounding.
const ROUNDING: f64 = 1e-9;

/// The curve's ends and its number of steps.
const CURVE: (f64, f64, usize) = (-0.5, 2.0, 25);

/// The profile of phi around the best surface: n ln(S(phi) / S(best)) against chi-square, as for
/// normal noise of unknown size; exact while residuals are within delta.
pub(super) fn profile(surface: &Surface, best: Fitted) -> Profile {
    let [_, alpha, beta] = surface.axes;
    let at = |phi: f64, near: Fitted| {
        let given = Surface { axes: [Axis::Fixed(phi), alpha, beta], ..surface.clone() };
        given.descend([phi, near.exponents[1], near.exponents[2]], QUICK)
    };
    let count: f64 = surface.weights.iter().sum();
    let floor = count * ROUNDING * ROUNDING;
    let outside = |fitted: &Fitted| {
        count * (fitted.objective.max(floor) / best.objective.max(floor)).ln() > CHI_SQUARE
    };
    // Outwards from the best one, each from the fit before it.
    let (first, last, steps) = CURVE;
    let grid = (0..=steps).map(|k| first + (last - first) * k as f64 / steps as f64);
    let (below, above): (Vec<f64>, Vec<f64>) = grid.partition(|phi| *phi < best.exponents[0]);
    let walk = |values: &mut dyn Iterator<Item = f64>| -> Vec<Fitted> {
        let next = |near: &mut Fitted, phi: f64| {
            *near = at(phi, *near);
            Some(*near)
        };
        values.scan(best, next).collect()
    };
    let below = walk(&mut below.into_iter().rev());
    let above = walk(&mut above.into_iter());
    let crossing = |walked: &[Fitted]| {
        let place = walked.iter().position(outside)?;
        let mut inner = if place == 0 { best } else { walked[place - 1] };
        let mut outer = walked[place];
        for _ in 0..20 {
            let middle = at(f64::midpoint(inner.exponents[0], outer.exponents[0]), inner);
            *(if outside(&middle) { &mut outer } else { &mut inner }) = middle;
        }
        finite(inner.exponents[0])
    };
    let point = |fitted: &Fitted| ProfilePoint {
        phi: fitted.exponents[0],
        objective: finite(fitted.objective),
    };
    let (low, high) = (crossing(&below), crossing(&above));
    let curve = below.iter().rev().chain([&best]).chain(&above).map(point).collect();
    Profile { low, high, curve }
}
