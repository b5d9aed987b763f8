//! The weight files of a folder, single or sharded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde_json::Value;

use crate::error::{Error, Result};

use super::header::{Stored, read_header};
use super::settings::{brief, read_json};

/// All weights in one file.
pub const SINGLE: &str = "model.safetensors";
/// Which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";

/// Every tensor stored in `folder`, in one file or in shards.
///
/// # Errors
/// There are no safetensors, a shard is missing, or a file is damaged.
pub fn stored_tensors(folder: &Path) -> Result<BTreeMap<String, Stored>> {
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.is_file() {
        return read_header(&single);
    }
    if !index.is_file() {
        return Err(Error::input(format!("neither `{SINGLE}` nor `{INDEX}` is here"))
            .at(folder.display())
            .hint("only safetensors are read: convert pytorch_model.bin with transformers"));
    }
    let weight_map = read_index(&index)?;
    let shards: BTreeSet<&String> = weight_map.values().collect();
    let missing: Vec<_> = shards.iter().filter(|shard| !folder.join(shard).is_file()).collect();
    if let Some(first) = missing.first() {
        return Err(Error::input(format!("shard `{first}` is missing")).at(folder.display()).hint(
            format!("{} of {} shards are missing: fetch them", missing.len(), shards.len()),
        ));
    }
    let mut headers = BTreeMap::new();
    for shard in &shards {
        headers.insert(*shard, read_header(&folder.join(shard))?);
    }
    let mut tensors = BTreeMap::new();
    for (name, shard) in &weight_map {
        let stored = headers.get_mut(shard).and_then(|header| header.remove(name));
        let absent = || {
            Error::input(format!("the index places `{name}` in `{shard}`, which does not hold it"))
                .at(index.display())
                .hint("index and shards are from different versions: fetch all of them again")
        };
        tensors.insert(name.clone(), stored.ok_or_else(absent)?);
    }
    Ok(tensors)
}

/// Tensor to shard, every shard a plain name below the folder.
///
/// # Errors
/// The file is not an index, or points outside its folder.
pub fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let value = read_json(path)?;
    let refuse = |message: String| Error::input(message).at(path.display());
    let map = value.get("weight_map").and_then(Value::as_object).filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| {
        refuse("`weight_map` is missing: this is not an index of shards".to_owned())
            .hint("fetch the index again")
    })?;
    let mut weight_map = BTreeMap::new();
    for (name, shard) in map {
        let file = shard.as_str().filter(|file| stays_inside(file)).ok_or_else(|| {
            refuse(format!("the index points outside its folder: {}", brief(shard)))
                .hint("a shard is named by a path below the folder: do not trust this checkpoint")
        })?;
        weight_map.insert(name.clone(), file.to_owned());
    }
    Ok(weight_map)
}

/// By its letters alone: caches of the Hub keep links that do lead elsewhere.
fn stays_inside(file: &str) -> bool {
    let mut parts = Path::new(file).components().peekable();
    parts.peek().is_some()
        && !file.contains(['\\', '\0', ':'])
        && parts.all(|part| matches!(part, Component::Normal(_)))
}
