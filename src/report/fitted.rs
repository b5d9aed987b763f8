//! An estimate with its interval.

use serde::Deserialize;

/// An estimate between the ends of its 95 % interval.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fitted {
    pub(super) estimate: Option<f64>,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
}
