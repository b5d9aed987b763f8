//! The likeliest curve of one form through numbers known only between bounds.
//!
//! ln n = ln f(ratios) + sigma * noise, by maximum likelihood: interval regression after Tobin
//! 1958. With intervals alone a perfect curve drives sigma to 0, so sigma is at least
//! [`SMALLEST_SIGMA`].

use std::collections::BTreeMap;

use serde::Serialize;

use super::minimum::{Search, minimum};
use super::needed::Needed;
use super::span::rank;

/// The floor of sigma: about 5 % of the number itself.
pub const SMALLEST_SIGMA: f64 = 0.05;

/// A factor of e^10 is no law at all.
const LARGEST_SIGMA: f64 = 10.0;

/// How the number depends on the first ratio r. A second ratio, where it varies, multiplies by
/// its own power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// scale
    Constant,
    /// scale * r
    Linear,
    /// scale * r^exponent
    Power,
    /// intercept + slope * ln r
    Logarithmic,
    /// scale * e^(rate * r)
    Exponential,
}

impl Form {
    /// Has a number of its own for the first ratio.
    pub(super) fn bends(self) -> bool {
        !matches!(self, Self::Constant | Self::Linear)
    }
}

/// A predictor with mean 0 and spread 1, so that searches take steps of one size.
#[derive(Debug, Clone)]
struct Column {
    mean: f64,
    spread: f64,
    values: Vec<f64>,
}

impl Column {
    /// None if all values are the same.
    fn of(raw: &[f64]) -> Option<Self> {
        let count = raw.len() as f64;
        let mean = raw.iter().sum::<f64>() / count;
        let spread = (raw.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        let varies = raw.iter().any(|x| x.to_bits() != raw[0].to_bits());
        let values = raw.iter().map(|x| (x - mean) / spread).collect();
        (varies && spread > 0.0 && spread.is_finite()).then_some(Self { mean, spread, values })
    }
}

/// One form over one set of rows.
#[derive(Debug, Clone)]
pub(super) struct Curve<'a> {
    rows: &'a [Needed],
    form: Form,
    first: Option<Column>,
    second: Option<Column>,
}

/// Where a search ended: level, ln sigma, bend and second exponent, of standardised predictors.
pub(super) type Point = [f64; 4];

/// The best point and its ln likelihood.
#[derive(Debug, Clone, Copy)]
pub(super) struct Best {
    pub(super) point: Point,
    pub(super) ln_likelihood: f64,
}

impl<'a> Curve<'a> {
    pub(super) fn new(rows: &'a [Needed], form: Form) -> Self {
        let raw =
            |of: &dyn Fn(&Needed) -> f64| Column::of(&rows.iter().map(of).collect::<Vec<_>>());
        let first = match form {
            Form::Constant | Form::Linear => None,
            Form::Power | Form::Logarithmic => raw(&|row| row.ratios[0].ln()),
            Form::Exponential => raw(&|row| row.ratios[0]),
        };
        let second = raw(&|row| row.ratios.get(1).map_or(0.0, |ratio| ratio.ln()));
        Self { rows, form, first, second }
    }

    /// Numbers fitted, sigma among them.
    pub(super) fn parameters(&self) -> usize {
        2 + usize::from(self.form.bends()) + usize::from(self.second.is_some())
    }

    /// Why the weighted rows do not determine every number of the curve.
    ///
    /// Ratios with a bound on either side hold the curve from both; where these alone determine
    /// it, the likelihood has a highest point. One-sided rows may let it rise for ever.
    pub(super) fn undetermined(&self, weights: &[f64]) -> Option<String> {
        let mut held: BTreeMap<Vec<u64>, (usize, bool, bool)> = BTreeMap::new();
        for (index, row) in self.rows.iter().enumerate().filter(|(index, _)| weights[*index] > 0.0)
        {
            let cell = held.entry(row.cell()).or_insert((index, false, false));
            cell.1 |= row.low > 0.0;
            cell.2 |= row.high.is_some();
        }
        let both: Vec<usize> =
            held.values().filter(|cell| cell.1 && cell.2).map(|cell| cell.0).collect();
        let wanted = self.parameters() - 1;
        if self.form.bends() && self.first.is_none() {
            return Some("the first ratio does not vary".into());
        }
        (self.rank(&both) < wanted).then(|| {
            format!(
                "needs {wanted} settings with a bound on either side that do not follow from one \
                 another, found {}",
                both.len()
            )
        })
    }

    /// How many of the curve's numbers act differently on some rows.
    fn rank(&self, rows: &[usize]) -> usize {
        let column = |column: &Column| rows.iter().map(|row| column.values[*row]).collect();
        let mut columns: Vec<Vec<f64>> = vec![vec![1.0; rows.len()]];
        columns.extend(self.first.iter().chain(&self.second).map(column));
        rank(&columns)
    }

    /// ln f of one row; not a number where the form would be negative.
    fn centre(&self, row: usize, [level, _, bend, second]: Point) -> f64 {
        let value = |column: &Option<Column>| column.as_ref().map_or(0.0, |c| c.values[row]);
        let first = match self.form {
            Form::Constant => 0.0,
            Form::Linear => self.rows[row].ratios[0].ln(),
            Form::Power | Form::Exponential => bend * value(&self.first),
            Form::Logarithmic => (1.0 + bend * value(&self.first)).ln(),
        };
        level + first + second * value(&self.second)
    }

    /// ln likelihood of the rows, each as often as its weight says.
    pub(super) fn ln_likelihood(&self, point: Point, weights: &[f64]) -> f64 {
        let sigma = sigma(point);
        let one = |(row, weight): (usize, &f64)| {
            weight * self.rows[row].ln_likelihood(self.centre(row, point), sigma)
        };
        weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0).map(one).sum()
    }

    /// The most likely point, sought from `start` or else from the middles of the intervals.
    pub(super) fn fit(&self, weights: &[f64], start: Option<Point>, search: Search) -> Best {
        let step = if start.is_some() { 0.1 } else { 0.5 };
        let start = start.unwrap_or_else(|| {
            let offset = |row: usize| self.rows[row].ln_middle() - self.centre(row, [0.0; 4]);
            let total: f64 = (0..self.rows.len()).map(|row| weights[row] * offset(row)).sum();
            [total / weights.iter().sum::<f64>(), -1.0, 0.0, 0.0]
        });
        let only = |wanted: bool| if wanted { step } else { 0.0 };
        let steps = [step, step, only(self.form.bends()), only(self.second.is_some())];
        let point = |at: &[f64]| [at[0], at[1], at[2], at[3]];
        let found = minimum(&start, &steps, search, &|at| -self.ln_likelihood(point(at), weights));
        Best { point: point(&found.at), ln_likelihood: -found.value }
    }

    /// The numbers of the form, in units of the ratios themselves.
    pub(super) fn named(&self, point: Point) -> BTreeMap<&'static str, f64> {
        let [mut level, _, bend, _] = point;
        let mut named = BTreeMap::from([("sigma", sigma(point))]);
        if let Some((exponent, column)) = self.second_exponent(point).zip(self.second.as_ref()) {
            level -= exponent * column.mean;
            named.insert("second_exponent", exponent);
        }
        let (mean, slope) = self.first.as_ref().map_or((0.0, 0.0), |c| (c.mean, bend / c.spread));
        match self.form {
            Form::Constant | Form::Linear => named.insert("scale", level.exp()),
            Form::Power => {
                named.insert("exponent", slope);
                named.insert("scale", (level - slope * mean).exp())
            }
            Form::Exponential => {
                named.insert("rate", slope);
                named.insert("scale", (level - slope * mean).exp())
            }
            Form::Logarithmic => {
                named.insert("slope", level.exp() * slope);
                named.insert("intercept", level.exp() * (1.0 - slope * mean))
            }
        };
        named
    }

    /// The power of the second ratio.
    pub(super) fn second_exponent(&self, point: Point) -> Option<f64> {
        self.second.as_ref().map(|column| point[3] / column.spread)
    }

    /// The power of the first ratio, where the form is a power.
    pub(super) fn exponent(&self, point: Point) -> Option<f64> {
        let column = self.first.as_ref().filter(|_| self.form == Form::Power)?;
        Some(point[2] / column.spread)
    }
}

fn sigma(point: Point) -> f64 {
    point[1].exp().clamp(SMALLEST_SIGMA, LARGEST_SIGMA)
}
