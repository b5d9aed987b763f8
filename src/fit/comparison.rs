//! Comparison of forms by AICc, and the exponent with its interval.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::Result;

use super::censored::{Best, Curve, Form, Point};
use super::estimate::{Estimate, Resampling, draw_groups, draws, finite, groups};
use super::minimum::{QUICK, THOROUGH};
use super::needed::{Needed, check};

/// One form at its most likely.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FormFit {
    /// Which.
    pub form: Form,
    /// Its numbers by name, sigma among them; empty where the data do not determine them.
    pub parameters: BTreeMap<&'static str, f64>,
    /// ln of the likelihood.
    pub log_likelihood: Option<f64>,
    /// Akaike's criterion corrected for few rows (Hurvich and Tsai 1989); the lower the better.
    pub aicc: Option<f64>,
    /// Mean ln likelihood of rows whose cell was left out of the fit; the higher the better.
    /// Absent if one cell cannot be left out, or gets no probability.
    pub held_out: Option<f64>,
    /// Why something is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// All forms side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// How many numbers were measured.
    pub rows: usize,
    /// Of these, where the smallest number tried sufficed.
    pub left_censored: usize,
    /// Of these, where no number tried sufficed.
    pub right_censored: usize,
    /// The form of the lowest AICc.
    pub form: Option<Form>,
    /// Every form.
    pub forms: Vec<FormFit>,
    /// The power of the first ratio in the power form.
    pub exponent: Estimate,
    /// The power of the second ratio, where it varies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_exponent: Option<Estimate>,
    /// Why there is no form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Fits `forms` to the rows, and the exponents again to rows drawn by cluster.
///
/// # Errors
/// There are no rows, or a ratio or bound makes no sense.
pub(super) fn compare(
    rows: &[Needed],
    forms: &[Form],
    resampling: Resampling,
) -> Result<Comparison> {
    check(rows)?;
    let fits: Vec<FormFit> = forms.iter().map(|form| form_fit(rows, *form)).collect();
    let scored = fits.iter().filter_map(|fit| Some((fit.form, fit.aicc?)));
    let form = scored.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(form, _)| form);
    let exponents = exponents(rows, form, resampling);
    let right_censored = rows.iter().filter(|row| row.high.is_none()).count();
    let note = match form {
        Some(_) => None,
        None if right_censored == rows.len() => {
            Some("none of the numbers tried sufficed anywhere: more are needed".to_owned())
        }
        None => Some("too few rows bounded on either side for any form".to_owned()),
    };
    Ok(Comparison {
        rows: rows.len(),
        left_censored: rows.iter().filter(|row| row.low == 0.0).count(),
        right_censored,
        form,
        forms: fits,
        exponent: exponents.0,
        second_exponent: exponents.1,
        note,
    })
}

fn form_fit(rows: &[Needed], form: Form) -> FormFit {
    let curve = Curve::new(rows, form);
    let weights = vec![1.0; rows.len()];
    let note = curve.undetermined(&weights);
    if note.is_some() {
        let (log_likelihood, aicc, held_out) = (None, None, None);
        return FormFit { form, parameters: BTreeMap::new(), log_likelihood, aicc, held_out, note };
    }
    let best = curve.fit(&weights, None, THOROUGH);
    let aicc = aicc(best.ln_likelihood, curve.parameters(), rows.len());
    let mut parameters = curve.named(best.point);
    parameters.retain(|_, value| value.is_finite());
    FormFit {
        form,
        parameters,
        log_likelihood: finite(best.ln_likelihood),
        aicc,
        held_out: held_out(rows, &curve, best),
        note: aicc.is_none().then(|| "too few rows to compare it with others".to_owned()),
    }
}

fn aicc(ln_likelihood: f64, parameters: usize, rows: usize) -> Option<f64> {
    let (k, left) = (parameters as f64, rows as f64 - parameters as f64 - 1.0);
    (left > 0.0)
        .then(|| 2.0 * k - 2.0 * ln_likelihood + 2.0 * k * (k + 1.0) / left)
        .and_then(finite)
}

/// Every cell is left out once, the curve fitted to the others and the cell scored.
fn held_out(rows: &[Needed], curve: &Curve, full: Best) -> Option<f64> {
    let mut total = 0.0;
    for cell in groups(rows.iter().map(Needed::cell)) {
        let (mut kept, mut left) = (vec![1.0; rows.len()], vec![0.0; rows.len()]);
        for row in cell {
            (kept[row], left[row]) = (0.0, 1.0);
        }
        if curve.undetermined(&kept).is_some() {
            return None;
        }
        let best = curve.fit(&kept, Some(full.point), THOROUGH);
        total += curve.ln_likelihood(best.point, &left);
    }
    finite(total / rows.len() as f64)
}

/// The exponents of the ratios in the power form; where the first ratio does not determine one,
/// the second's in the chosen form.
fn exponents(
    rows: &[Needed],
    chosen: Option<Form>,
    resampling: Resampling,
) -> (Estimate, Option<Estimate>) {
    let weights = vec![1.0; rows.len()];
    let power = Curve::new(rows, Form::Power);
    let absent = power.undetermined(&weights);
    let curve = match (&absent, chosen) {
        (None, _) => power,
        (Some(_), Some(form)) => Curve::new(rows, form),
        (Some(note), None) => return (Estimate::absent(note), None),
    };
    let best = curve.fit(&weights, None, THOROUGH).point;
    let clusters = groups(rows.iter().map(|row| &row.cluster));
    let drawn = draws(resampling, |rng| {
        let weights = draw_groups(&clusters, rows.len(), rng);
        let told = curve.undetermined(&weights).is_none();
        told.then(|| curve.fit(&weights, Some(best), QUICK).point)
    });
    let estimate = |ratio: usize, of: &dyn Fn(Point) -> Option<f64>| {
        let value = of(best)?;
        let distinct: BTreeSet<u64> = rows.iter().map(|row| row.ratios[ratio].to_bits()).collect();
        let (clusters, distinct) = (clusters.len(), distinct.len());
        if clusters < 2 || distinct < 3 {
            let found = format!("found {clusters} and {distinct}");
            let note = format!("an interval needs 2 clusters and 3 ratios, {found}");
            return Some(Estimate::alone(value, note));
        }
        let drawn = drawn.iter().filter_map(|point| of(*point)).collect();
        Some(Estimate::among(value, drawn, resampling.resamples))
    };
    let first = estimate(0, &|point| curve.exponent(point));
    let second = estimate(1, &|point| curve.second_exponent(point));
    (first.unwrap_or_else(|| Estimate::absent(absent.unwrap_or_default())), second)
}
