//! Loading of stored tensors as the f32 tensors of a model.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

use super::checkpoint::Loaded;
use super::header::Stored;
use crate::context::Context;
use crate::error::{Error, Result};

/// One tensor the model requires.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its canonical name.
    pub canonical: String,
    /// Its name in the checkpoint.
    pub published: String,
    /// Its shape, as the configuration implies it.
    pub shape: Vec<usize>,
}

/// Reads every wanted tensor as f32 on the CPU, several at a time. `config` is the file that told
/// the shapes.
///
/// # Errors
/// A tensor is missing, has another shape or a type that is no float, or is not finite.
pub fn load_tensors(
    mut stored: BTreeMap<String, Stored>,
    wanted: &[Wanted],
    config: &Path,
    context: &Context,
) -> Result<Loaded> {
    let mut tasks = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let found = stored.remove(&wanted.published);
        let found = found.ok_or_else(|| missing(wanted, config))?;
        check(wanted, &found, config)?;
        tasks.push((wanted, found));
    }
    report_unused(&stored, context);
    let total_bytes: usize = tasks.iter().map(|(_, found)| found.bytes).sum();
    let done_bytes = AtomicU64::new(0);
    context.begin("load weights", total_bytes as u64, "bytes");
    let read_one = |(wanted, found): &(&Wanted, Stored)| {
        context.check_cancelled("while the weights were read")?;
        let (tensor, hash) = read_tensor(&wanted.published, found)?;
        let bytes = found.bytes as u64;
        let done = done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        context.advance(done, &wanted.published);
        Ok((wanted.canonical.clone(), tensor, hash))
    };
    let loaded: Result<Vec<_>> = tasks.par_iter().map(read_one).collect();
    context.end();
    let (mut tensors, mut hashes) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor, hash) in loaded? {
        tensors.insert(name.clone(), tensor);
        hashes.insert(name, hash);
    }
    Ok((tensors, hashes))
}

fn missing(wanted: &Wanted, config: &Path) -> Error {
    let hint = if wanted.canonical == "head.weight" {
        "if the head is the embedding, config.json must say \"tie_word_embeddings\": true"
    } else {
        "the checkpoint is incomplete, or config.json belongs to another model"
    };
    Error::input(format!("tensor `{}` is missing", wanted.published))
        .at(config.display())
        .hint(hint)
}

fn check(wanted: &Wanted, found: &Stored, config: &Path) -> Result<()> {
    let name = &wanted.published;
    if found.shape != wanted.shape {
        let message =
            format!("tensor `{name}` is {:?}, the config implies {:?}", found.shape, wanted.shape);
        return Err(Error::input(message)
            .at(config.display())
            .hint("weights and config.json are from different models: fetch both again"));
    }
    if !matches!(found.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
        let message = format!("tensor `{name}` is {:?}, expected F32, F16 or BF16", found.dtype);
        return Err(Error::input(message)
            .at(found.path.display())
            .hint("take the unquantised checkpoint, or a GGUF file"));
    }
    Ok(())
}

/// Buffers that some versions stored and every version can compute, and heads that are tied.
fn report_unused(unused: &BTreeMap<String, Stored>, context: &Context) {
    let known = |name: &str| {
        name.ends_with("rotary_emb.inv_freq")
            || name.ends_with(".masked_bias")
            || name == "lm_head.weight"
    };
    let names: Vec<_> = unused.keys().filter(|name| !known(name)).collect();
    if let Some(first) = names.first() {
        context.warn(&format!(
            "the checkpoint holds {} tensors this family does not use, first `{first}`",
            names.len()
        ));
    }
}

fn read_tensor(name: &str, found: &Stored) -> Result<(Tensor, blake3::Hash)> {
    let failed = |error| Error::io("reading", &found.path, &error);
    let mut file = File::open(&found.path).map_err(failed)?;
    file.seek(SeekFrom::Start(found.start)).map_err(failed)?;
    let mut bytes = vec![0; found.bytes];
    file.read_exact(&mut bytes).map_err(failed)?;
    let hash = blake3::hash(&bytes);
    let numbers = to_f32(found.dtype, &bytes);
    if let Some(index) = numbers.iter().position(|number| !number.is_finite()) {
        let message = format!("tensor `{name}` is {} at {index}", numbers[index]);
        return Err(Error::input(format!("{message}, expected a finite number"))
            .at(found.path.display())
            .hint("the weights are damaged, or their training diverged: take another checkpoint"));
    }
    Ok((Tensor::from_vec(numbers, found.shape.as_slice(), &Device::Cpu)?, hash))
}

fn to_f32(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let pairs = bytes.as_chunks::<2>().0;
    match dtype {
        Dtype::F16 => pairs.iter().map(|&pair| f16::from_le_bytes(pair).to_f32()).collect(),
        Dtype::BF16 => pairs.iter().map(|&pair| bf16::from_le_bytes(pair).to_f32()).collect(),
        Dtype::F64 => {
            bytes.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight) as f32).collect()
        }
        _ => bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
    }
}
