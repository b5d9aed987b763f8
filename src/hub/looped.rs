//! Is this one of our own students?

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::TransformerConfig;

/// The `model_type` of an exported student.
pub const MODEL_TYPE: &str = "factorexe-looped";

/// What a student's `config.json` says of its tensors, which already have their canonical names.
#[derive(Debug, Clone)]
pub struct Looped {
    /// The teacher's decoder.
    pub base: TransformerConfig,
    /// Every tensor by name, with its shape; none: take what the file holds.
    pub tensors: Option<Vec<(String, Vec<usize>)>>,
}

/// HOOK: reads `factorexe` of a student's `config.json`; none when it is no student.
/// To wire: parse `LoopedConfig` from `settings`, validate it, and list its tensors.
///
/// # Errors
/// It says it is a student, but not which.
pub fn read_looped(config: &Value) -> Result<Option<Looped>> {
    if config.get("model_type").and_then(Value::as_str) != Some(MODEL_TYPE) {
        return Ok(None);
    }
    let settings = config.get("factorexe").unwrap_or(&Value::Null);
    let base = settings.get("base").unwrap_or(&Value::Null);
    let base: TransformerConfig = serde_json::from_value(base.clone()).map_err(|error| {
        Error::input(format!("`factorexe.base` is no decoder: {error}"))
            .hint("was this folder written by `factorize export`, and is it complete?")
    })?;
    base.validate()?;
    Ok(Some(Looped { base, tensors: None }))
}
