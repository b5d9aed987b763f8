//! Loading of GGUF tensors under the names of this crate.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::config::ROPE_FREQUENCIES;
use super::header::{Header, TensorInfo};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::hub::adapter::Family;
use crate::hub::checkpoint::Loaded;
use crate::model::TransformerConfig;

/// All weights by our names, f32 on the CPU, with query and key rows in the usual order, and the
/// hashes of their stored bytes.
///
/// # Errors
/// A tensor is missing, superfluous, of another shape, or not finite.
pub(super) fn load(
    file: &[u8],
    header: &Header,
    config: &TransformerConfig,
    family: &Family,
    context: &Context,
) -> Result<Loaded> {
    let infos = match_tensors(header, config, family)?;
    context.begin("unpack", infos.len() as u64, "tensors");
    let (mut tensors, mut hashes) = (BTreeMap::new(), BTreeMap::new());
    for (name, shape, info) in infos {
        hashes.insert(name.clone(), blake3::hash(&file[info.bytes.clone()]));
        let mut values = numbers(file, &name, info)?;
        if family.gguf.permuted_qk
            && (name.contains("attention.q.") || name.contains("attention.k."))
        {
            values = halve(&values, config.head_width, values.len() / shape[0]);
        }
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
        tensors.insert(name, tensor);
        context.advance(tensors.len() as u64, "");
    }
    context.end();
    Ok((tensors, hashes))
}

/// The dequantised values of a tensor.
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
    family: &Family,
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
        let theirs = family
            .gguf_name(&name)
            .ok_or_else(|| Error::internal(format!("`{name}` has no name in GGUF")))?;
        let info = header.tensors.get(theirs.as_str()).ok_or_else(|| {
            Error::input(format!("the file has no tensor `{theirs}`"))
                .hint(format!("its metadata speaks of {} layers", config.layers))
        })?;
        if info.shape != shape {
            return Err(Error::input(format!(
                "the tensor `{theirs}` is {:?}, but the metadata implies {shape:?}",
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
