//! Resuming a run: which parts of its configuration must be the same.

use std::collections::BTreeMap;

use super::config::TrainConfig;
use super::optimizer::Optimizer;
use super::state::{FrozenFingerprint, Restored};
use crate::autograd::Params;
use crate::context::Context;
use crate::error::{Error, Result};

/// The configuration keys that change the results of a run, and their blake3 hash.
pub(super) fn fingerprint(config: &TrainConfig) -> Result<(serde_json::Value, String)> {
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
    (config, seed): (&TrainConfig, u64),
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
        let changed = now.as_object().into_iter().flatten();
        let changed = changed.filter(|(key, value)| manifest.config.get(key) != Some(value));
        let mut changed: Vec<String> = changed.map(|(key, _)| format!("train.{key}")).collect();
        changed.extend((seed != manifest.seed).then(|| "seed".to_owned()));
        context.warn(&format!(
            "resuming with a configuration that differs from the checkpoint's: {}",
            changed.join(", ")
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
