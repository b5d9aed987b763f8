//! Formatting of numbers in the tables of a study.

use serde::Serialize;

use crate::fit::Estimate;

/// A ratio, to two decimals at most.
pub(super) fn short(ratio: f64) -> String {
    ((100.0 * ratio).round() / 100.0).to_string()
}

/// An estimate with its interval, or the reason why there is none.
pub(super) fn estimate(found: &Estimate) -> String {
    match (found.estimate, found.low, found.high) {
        (Some(value), Some(low), Some(high)) => format!("{value:.2} [{low:.2}, {high:.2}]"),
        (Some(value), ..) => format!("{value:.2}"),
        _ => format!("? ({})", found.note.as_deref().unwrap_or("not determined")),
    }
}

/// An enum value as recipes and results spell it.
pub(super) fn written(choice: &impl Serialize) -> String {
    let value = serde_json::to_value(choice).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
