//! Recognition and reading of exported students.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::LoopedConfig;

/// The `model_type` of an exported student.
pub const MODEL_TYPE: &str = "factorexe-looped";

/// The key of its `config.json` that holds the [`LoopedConfig`].
pub const KEY: &str = "factorexe";

/// How a student is factored; none when this `config.json` is of no student.
///
/// # Errors
/// The configuration names a student, but not a possible one.
pub fn read_looped(config: &Value) -> Result<Option<LoopedConfig>> {
    if config.get("model_type").and_then(Value::as_str) != Some(MODEL_TYPE) {
        return Ok(None);
    }
    let settings = config.get(KEY).unwrap_or(&Value::Null);
    let looped: LoopedConfig = serde_json::from_value(settings.clone()).map_err(|error| {
        Error::input(format!(
            "`{KEY}` does not describe the factorization of this student: {error}"
        ))
        .hint("was this folder written by `factorize export`, and is it complete?")
    })?;
    looped.validate()?;
    Ok(Some(looped))
}
