//! The law of sample complexity: samples needed to learn a chain of a given length.

use crate::error::Result;

use super::censored::Form;
use super::comparison::{Comparison, compare};
use super::estimate::Resampling;
use super::needed::Needed;

/// What samples may follow: what each step is learned from at once, a power of the length, or
/// blind search over whole chains.
const FORMS: [Form; 3] = [Form::Constant, Form::Power, Form::Exponential];

/// Fits every form to the samples needed at each length, the only ratio of every row.
///
/// # Errors
/// There are no rows, or a length or bound makes no sense.
pub fn fit(rows: &[Needed], resampling: Resampling) -> Result<Comparison> {
    compare(rows, &FORMS, resampling)
}
