//! Sharding of a checkpoint into safetensors files of bounded size.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::Tensor;
use serde_json::{Map, json};

use super::shards::{INDEX, SINGLE};
use super::store::{StoredType, write_tensors};
use crate::error::{Error, Result};

/// Bytes of numbers in one file, unless a single tensor has more: what transformers cuts at.
pub(super) const SHARD_BYTES: usize = 5_000_000_000;

/// Writes the tensors into `folder`: one file, or shards of at most `shard_bytes` and their index.
///
/// # Errors
/// As [`write_tensors`].
pub(super) fn write_checkpoint(
    folder: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &[(&str, String)],
    stored: StoredType,
    shard_bytes: usize,
) -> Result<()> {
    let bytes = |tensor: &Tensor| tensor.elem_count() * stored.bytes();
    let (mut shards, mut shard, mut filled) = (Vec::new(), BTreeMap::new(), 0);
    for (name, tensor) in tensors {
        if filled + bytes(tensor) > shard_bytes && !shard.is_empty() {
            shards.push(std::mem::take(&mut shard));
            filled = 0;
        }
        filled += bytes(tensor);
        shard.insert(name.clone(), tensor.clone());
    }
    if shards.is_empty() {
        return write_tensors(&folder.join(SINGLE), tensors, metadata, stored);
    }
    shards.push(shard);
    let mut weight_map = Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let file = shard_name(index, shards.len());
        write_tensors(&folder.join(&file), shard, metadata, stored)?;
        weight_map.extend(shard.keys().map(|name| (name.clone(), json!(file))));
    }
    let total: usize = tensors.values().map(bytes).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    let path = folder.join(INDEX);
    let written = fs::write(&path, format!("{index:#}\n"));
    written.map_err(|error| Error::io("writing", &path, &error))
}

/// As Hugging Face names them, counted from 1.
fn shard_name(index: usize, shards: usize) -> String {
    format!("model-{:05}-of-{shards:05}.safetensors", index + 1)
}

/// Whether a file of this name may be a part of what [`write_checkpoint`] writes.
pub(super) fn is_part(name: &str) -> bool {
    let shard = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let numbers = |shard: &str| {
        let parts = shard.split_once("-of-");
        let digits = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
        parts.is_some_and(|(index, shards)| digits(index) && digits(shards))
    };
    name == SINGLE || name == INDEX || shard.is_some_and(numbers)
}
