//! Which tensor of a GGUF file is which of ours?

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::config::{Family, ROPE_FREQUENCIES};
use super::header::{Header, TensorInfo};
use crate::error::{Error, Result};
use crate::model::config::TransformerConfig;
use crate::observe::Observer;

/// Ours, theirs: outside the layers.
const OUTER: [(&str, &str); 3] = [
    ("embed.weight", "token_embd.weight"),
    ("norm.weight", "output_norm.weight"),
    ("head.weight", "output.weight"),
];

/// Ours, theirs: within layer i, where theirs begin with `blk.{i}.`.
const LAYER: [(&str, &str); 18] = [
    ("attention_norm.weight", "attn_norm.weight"),
    ("attention.q.weight", "attn_q.weight"),
    ("attention.k.weight", "attn_k.weight"),
    ("attention.v.weight", "attn_v.weight"),
    ("attention.o.weight", "attn_output.weight"),
    ("attention.q.bias", "attn_q.bias"),
    ("attention.k.bias", "attn_k.bias"),
    ("attention.v.bias", "attn_v.bias"),
    ("attention.o.bias", "attn_output.bias"),
    ("attention.q_norm.weight", "attn_q_norm.weight"),
    ("attention.k_norm.weight", "attn_k_norm.weight"),
    ("mlp_norm.weight", "ffn_norm.weight"),
    ("mlp.gate.weight", "ffn_gate.weight"),
    ("mlp.up.weight", "ffn_up.weight"),
    ("mlp.down.weight", "ffn_down.weight"),
    ("mlp.gate.bias", "ffn_gate.bias"),
    ("mlp.up.bias", "ffn_up.bias"),
    ("mlp.down.bias", "ffn_down.bias"),
];

/// Their name of our tensor.
fn their_name(ours: &str) -> Option<String> {
    let find = |table: &[(&str, &'static str)], ours: &str| {
        table.iter().find(|(name, _)| *name == ours).map(|(_, theirs)| *theirs)
    };
    if let Some(rest) = ours.strip_prefix("layers.") {
        let (layer, name) = rest.split_once('.')?;
        return find(&LAYER, name).map(|theirs| format!("blk.{layer}.{theirs}"));
    }
    find(&OUTER, ours).map(str::to_owned)
}

/// All weights by our names, f32 on the CPU, with query and key rows in the usual order.
///
/// # Errors
/// A tensor is missing, superfluous, of another shape, or not finite.
pub(super) fn load(
    file: &[u8],
    header: &Header,
    config: &TransformerConfig,
    family: &Family,
    observer: &dyn Observer,
) -> Result<BTreeMap<String, Tensor>> {
    let infos = match_tensors(header, config)?;
    observer.begin("unpack", infos.len() as u64, "tensors");
    let mut tensors = BTreeMap::new();
    for (name, shape, info) in infos {
        let mut values = numbers(file, &name, info)?;
        if family.interleaved && (name.contains("attention.q.") || name.contains("attention.k.")) {
            values = halve(&values, config.head_width, values.len() / shape[0]);
        }
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
        tensors.insert(name, tensor);
        observer.advance(tensors.len() as u64, "");
    }
    observer.end();
    Ok(tensors)
}

/// The unpacked numbers of a tensor.
///
/// # Errors
/// One of them is not finite.
pub(super) fn numbers(file: &[u8], name: &str, info: &TensorInfo) -> Result<Vec<f32>> {
    let values = info.blocks.unpack(&file[info.bytes.clone()]);
    match values.par_iter().position_any(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => Err(Error::input(format!(
            "the weights of `{name}` are not finite: number {index} is {}",
            values[index]
        ))
        .hint("the file is damaged, or was made from a model that diverged")),
    }
}

/// Our name, the shape, and where it lies, for every tensor of the model; no tensor is left over.
fn match_tensors<'a>(
    header: &'a Header,
    config: &TransformerConfig,
) -> Result<Vec<(String, Vec<usize>, &'a TensorInfo)>> {
    let mut left: BTreeSet<&str> = header.tensors.keys().copied().collect();
    left.remove(ROPE_FREQUENCIES);
    let mut matched = Vec::new();
    // Names are made lazily, and the first missing one stops: a lying block_count costs nothing.
    let layers = (0..config.layers).flat_map(|layer| {
        let table = config.layer_tensors().into_iter();
        table.map(move |(name, shape)| (format!("layers.{layer}.{name}"), shape))
    });
    let outer = config.outer_tensors().into_iter().map(|(name, shape)| (name.to_owned(), shape));
    for (name, shape) in outer.chain(layers) {
        let theirs = their_name(&name)
            .ok_or_else(|| Error::internal(format!("`{name}` has no name in GGUF")))?;
        let info = header.tensors.get(theirs.as_str()).ok_or_else(|| {
            Error::input(format!("the file has no tensor `{theirs}`"))
                .hint(format!("its metadata speaks of {} layers", config.layers))
        })?;
        if info.shape != shape {
            return Err(Error::input(format!(
                "the tensor `{theirs}` is {:?}, but the metadata asks for {shape:?}",
                info.shape
            )));
        }
        left.remove(theirs.as_str());
        matched.push((name, shape, info));
    }
    match left.first() {
        None => Ok(matched),
        Some(name) => Err(Error::input(format!(
            "the tensor `{name}` has no place in a {} of {} layers",
            config.family, config.layers
        ))
        .hint("is it an adapter, a mixture of experts, or a family under another name?")),
    }
}

/// Undoes llama.cpp's order of the rows of one head, (a0 b0 a1 b1 ..), where rotation pairs
/// neighbours, into (a0 a1 .. b0 b1 ..), where it pairs the halves; `columns` is 1 for a bias.
fn halve(interleaved: &[f32], head_width: usize, columns: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(interleaved.len());
    for head in interleaved.chunks_exact(head_width * columns) {
        for half in 0..2 {
            for pair in 0..head_width / 2 {
                let row = 2 * pair + half;
                rows.extend_from_slice(&head[row * columns..(row + 1) * columns]);
            }
        }
    }
    rows
}
