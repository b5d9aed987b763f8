//! Brackets: a number searched for on a grid is known between two of its points.

use crate::error::{Error, Result};

use super::normal::{ln_between, ln_density};

/// How many were needed at one setting: more than `low`, at most `high`.
#[derive(Debug, Clone, PartialEq)]
pub struct Needed {
    /// What it may depend on, one or two positive numbers: a depth ratio, then a width ratio.
    pub ratios: Vec<f64>,
    /// The largest number tried that did not suffice; 0 where the smallest did.
    pub low: f64,
    /// The smallest number tried that sufficed, absent if none did. Equal to `low` where the
    /// number is known exactly.
    pub high: Option<f64>,
    /// What is drawn together by the bootstrap, for example teacher and seed.
    pub cluster: String,
}

impl Needed {
    /// ln of the likelihood if ln of the number is normal about `centre`.
    pub(super) fn ln_likelihood(&self, centre: f64, sigma: f64) -> f64 {
        let from = |bound: f64| (bound.ln() - centre) / sigma;
        let (low, high) = (from(self.low), self.high.map_or(f64::INFINITY, from));
        if low < high { ln_between(low, high) } else { ln_density(low) - sigma.ln() }
    }

    /// ln of a number between the bounds, or near the only one.
    pub(super) fn ln_middle(&self) -> f64 {
        match self.high {
            None => self.low.ln(),
            Some(high) if self.low == 0.0 => high.ln(),
            Some(high) => f64::midpoint(self.low.ln(), high.ln()),
        }
    }

    /// What tells one cell of the grid from another.
    pub(super) fn cell(&self) -> Vec<u64> {
        // The bits of positive numbers are ordered as the numbers are.
        self.ratios.iter().map(|ratio| ratio.to_bits()).collect()
    }
}

/// Every row has the same number of positive ratios and bounds in order.
pub(super) fn check(rows: &[Needed]) -> Result<()> {
    let Some(first) = rows.first() else {
        return Err(Error::input("found no rows, expected at least one")
            .hint("measure one or more settings before fitting a law"));
    };
    let positive = |value: &f64| value.is_finite() && *value > 0.0;
    for (index, row) in rows.iter().enumerate() {
        let ratios = matches!(row.ratios.len(), 1 | 2)
            && row.ratios.len() == first.ratios.len()
            && row.ratios.iter().all(positive);
        let ordered = row.high.is_none_or(|high| positive(&high) && row.low <= high);
        let informed = row.low > 0.0 || (row.low == 0.0 && row.high.is_some());
        if !ratios {
            let found = format!("ratios {:?}", row.ratios);
            return Err(refused(index, &found, "one or two positive numbers, as in the first row"));
        }
        if !(row.low.is_finite() && ordered && informed) {
            let high = row.high.map_or_else(|| "no high".to_owned(), |high| format!("high {high}"));
            let found = format!("low {} and {high}", row.low);
            return Err(refused(index, &found, "0 <= low <= high, and no high only if low > 0"));
        }
    }
    Ok(())
}

fn refused(index: usize, found: &str, expected: &str) -> Error {
    Error::input(format!("row {}: found {found}, expected {expected}", index + 1))
        .hint("low is the largest number that did not suffice, high the smallest that did")
}
