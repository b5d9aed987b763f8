//! Resuming a run: which parts of its configuration must be the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::config::TrainConfig;
use super::optimizer::Optimizer;
use super::state::{FrozenFingerprint, Restored};
use crate::autograd::Params;
use crate::context::Context;
use crate::error::{Error, Result};

/// The configuration keys that change the results of a run, and their blake3 hash.
pub(super) fn fingerprint(config: &TrainConfig) -> Result<(Value, String)> {
    let mut value = serde_json::to_value(config).map_err(|error| {
        Error::internal(format!("the configuration is not valid JSON: {error}"))
    })?;
    if let Some(keys) = value.as_object_mut() {
        let harmless =
            ["checkpoint_every_steps", "keep_checkpoints", "validate_every_steps", "max_bad_steps"];
        keys.retain(|key, _| !harmless.contains(&key.as_str()));
    }
    let hash = blake3::hash(value.to_string().as_bytes()).to_hex().to_string();
    Ok((value, hash))
}

/// Restores parameters and optimizer moments from a checkpoint.
pub(super) fn restore(
    config: &TrainConfig,
    seed: u64,
    params: &Params,
    restored: &Restored,
    frozen: &BTreeMap<String, FrozenFingerprint>,
    optimizer: &mut Optimizer,
    context: &Context,
) -> Result<()> {
    let manifest = &restored.manifest;
    let hint = "the recipe or the teacher changed: give another folder with --out";
    let same_count = frozen.len() == manifest.frozen.len();
    let changed = frozen.iter().find(|(name, fingerprint)| {
        !manifest.frozen.get(*name).is_some_and(|saved| saved.matches(fingerprint))
    });
    if let Some((name, _)) = changed {
        return Err(
            Error::input(format!("`{name}` is not what this run was trained with")).hint(hint)
        );
    }
    if !same_count {
        return Err(Error::input("this run was trained with more frozen parameters").hint(hint));
    }
    restored.set_parameters(params, "parameter").map_err(|error| error.hint(hint))?;
    optimizer.load(params, &restored.tensors, &manifest.updates).map_err(|e| e.hint(hint))?;
    let (now, hash) = fingerprint(config)?;
    if hash != manifest.config_hash || seed != manifest.seed {
        let mut changed = Vec::new();
        differences(&manifest.config, &now, "train", &mut changed);
        if seed != manifest.seed {
            changed.push(format!("seed was {}, and is {seed} now", manifest.seed));
        }
        context.warn(&format!(
            "resuming with a configuration that differs from the checkpoint's: {}",
            changed.join("; ")
        ));
    }
    Ok(())
}

/// What to do with existing checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Refuse to start, so that no run is overwritten.
    Fresh,
    /// Resume from the newest one; start from the beginning if there is none.
    IfPresent,
}

/// The keys below `path` whose values differ, with the old and the new value.
fn differences(old: &Value, new: &Value, path: &str, found: &mut Vec<String>) {
    let (Some(olds), Some(news)) = (old.as_object(), new.as_object()) else {
        if old != new {
            found.push(format!("{path} was {}, and is {} now", shown(old), shown(new)));
        }
        return;
    };
    let keys: BTreeSet<&String> = olds.keys().chain(news.keys()).collect();
    for key in keys {
        let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned().unwrap_or_default();
        differences(&value(olds), &value(news), &format!("{path}.{key}"), found);
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() { "absent".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_named_with_both_values() {
        let old = serde_json::json!({"steps": 10, "optimizer": {"lr": 0.1, "eps": 1}, "ema": 0.9});
        let new = serde_json::json!({"steps": 10, "optimizer": {"lr": 0.2, "eps": 1}});
        let mut found = Vec::new();
        differences(&old, &new, "train", &mut found);
        let expected =
            ["train.ema was 0.9, and is absent now", "train.optimizer.lr was 0.1, and is 0.2 now"];
        assert_eq!(found, expected);
    }
}
