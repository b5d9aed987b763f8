//! The depth law: repetitions needed against the size ratio.

use crate::error::Result;

use super::censored::Form;
use super::comparison::{Comparison, compare};
use super::estimate::Resampling;
use super::needed::Needed;

/// What repetitions may follow.
const FORMS: [Form; 5] =
    [Form::Constant, Form::Linear, Form::Power, Form::Logarithmic, Form::Exponential];

/// Fits every form to the repetitions needed at each ratio.
///
/// # Errors
/// There are no rows, or a ratio or bound makes no sense.
pub fn fit(rows: &[Needed], resampling: Resampling) -> Result<Comparison> {
    compare(rows, &FORMS, resampling)
}
