//! What must be the same when a run goes on?

use std::collections::BTreeMap;

use super::config::TrainConfig;
use super::optimizer::Optimizer;
use super::state::{FrozenMark, Restored};
use crate::autograd::Params;
use crate::context::Context;
use crate::error::{Error, Result};

/// The keys that change the numbers of a run, and their blake3.
pub(super) fn fingerprint(config: &TrainConfig) -> Result<(serde_json::Value, String)> {
    let mut value = serde_json::to_value(config)
        .map_err(|error| Error::internal(format!("the configuration is no JSON: {error}")))?;
    if let Some(keys) = value.as_object_mut() {
        let harmless =
            ["checkpoint_every_steps", "keep_checkpoints", "validate_every_steps", "max_bad_steps"];
        keys.retain(|key, _| !harmless.contains(&key.as_str()));
    }
    let hash = blake3::hash(value.to_string().as_bytes()).to_hex().to_string();
    Ok((value, hash))
}

/// Puts parameters and moments back as they were.
pub(super) fn restore(
    (config, seed): (&TrainConfig, u64),
    params: &Params,
    restored: &Restored,
    frozen: &BTreeMap<String, FrozenMark>,
    optimizer: &mut Optimizer,
    context: &Context,
) -> Result<()> {
    let manifest = &restored.manifest;
    let hint = "the recipe or the teacher changed: give another folder with --out";
    let same = frozen.len() == manifest.frozen.len();
    let other = frozen
        .iter()
        .find(|(name, mark)| !manifest.frozen.get(*name).is_some_and(|saved| saved.is_like(mark)));
    if let Some((name, _)) = other {
        return Err(
            Error::input(format!("`{name}` is not what this run was trained with")).hint(hint)
        );
    }
    if !same {
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
            "going on with another configuration than the checkpoint's: {}",
            changed.join(", ")
        ));
    }
    Ok(())
}

/// What to do about checkpoints that are already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Refuse: a run is not overwritten.
    Fresh,
    /// Go on from the newest one; begin if there is none.
    IfPresent,
}
