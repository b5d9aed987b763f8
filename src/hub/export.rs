//! How does a model leave for other programs?

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::Tensor;
use serde_json::{Value, json};

use super::adapter::Family;
use super::card::Card;
use super::header::LONGEST_HEADER;
use super::looped::{KEY, MODEL_TYPE};
use super::replace::replace_folder;
use super::store::{StoredType, write_tensors};
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{LoopedConfig, Parameters, TransformerConfig, unroll};

/// The class that would compute a student in transformers.
const ARCHITECTURE: &str = "FactorexeLoopedForCausalLM";
/// All files that an export may hold.
const FILES: [&str; 5] =
    ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/// Writes a student into `folder`, as [`super::Source`] reads it back: whole or not at all. An
/// earlier export is replaced.
///
/// # Errors
/// A tensor is missing, misshapen or not finite, the folder is in use, or the disk is full.
pub fn export_student(
    folder: &Path,
    config: &LoopedConfig,
    tensors: &BTreeMap<String, Tensor>,
    tokenizer: Option<&Tokenizer>,
    card: &Card,
    stored: StoredType,
) -> Result<()> {
    config.validate()?;
    let mut keys = Family::named(&config.base.family)?.hf_config(&config.base)?;
    keys["model_type"] = json!(MODEL_TYPE);
    keys["architectures"] = json!([ARCHITECTURE]);
    keys["num_hidden_layers"] = json!(config.applications(config.repetitions));
    keys[KEY] = json!(config);
    let usage = "Run it with FactorExe, at any number of repetitions, or unroll it for other \
                 programs:\n\n```sh\nfactorize generate --model . --prompt \"...\"\n\
                 factorize export . --unrolled --out plain\n```";
    let export = Export {
        keys,
        tensors: chosen(tensors, config.tensors())?,
        origin: json!(config).to_string(),
        readme: card.render(&summary(config), usage),
        tokenizer,
        stored,
    };
    export.write(folder)
}

/// Writes an unshared stack into `folder`, as stock loaders of its family read it.
///
/// # Errors
/// As [`export_student`]; or the family cannot say in its `config.json` what the stack is.
pub fn export_stack(
    folder: &Path,
    config: &TransformerConfig,
    tensors: &BTreeMap<String, Tensor>,
    tokenizer: Option<&Tokenizer>,
    card: &Card,
    stored: StoredType,
) -> Result<()> {
    let summary = format!(
        "A {} of {} layers, {} wide, {} parameters.",
        config.family,
        config.layers,
        config.width,
        Parameters::of_stack(config).total
    );
    let origin = json!({"family": config.family, "layers": config.layers}).to_string();
    stack(config, tensors, origin, tokenizer, card.render(&summary, STOCK_USAGE), stored)?
        .write(folder)
}

/// Writes the unshared stack that computes what a student computes at `repetitions` (N when
/// absent), as stock loaders of its teacher's family read it: no custom code, the same logits.
///
/// # Errors
/// As [`export_stack`].
pub fn export_unrolled(
    folder: &Path,
    config: &LoopedConfig,
    tensors: &BTreeMap<String, Tensor>,
    repetitions: Option<usize>,
    tokenizer: Option<&Tokenizer>,
    card: &Card,
    stored: StoredType,
) -> Result<()> {
    config.validate()?;
    let repetitions = repetitions.unwrap_or(config.repetitions);
    if repetitions == 0 || repetitions > 1 << 16 {
        return Err(Error::input(format!("{repetitions} repetitions, expected 1 to 65536")));
    }
    let tensors = chosen(tensors, config.tensors())?;
    let unrolled = config.unrolled(repetitions);
    let origin = json!({"unrolled": config, "repetitions": repetitions}).to_string();
    let summary = format!(
        "{}\n\nHere it is unrolled at {repetitions} repetitions into {} layers with weights of \
         their own, corrections merged: an ordinary {} that gives the same logits.",
        summary(config),
        unrolled.layers,
        config.base.family
    );
    let unshared = unroll::unroll(config, &tensors, repetitions)?;
    let readme = card.render(&summary, STOCK_USAGE);
    stack(&unrolled, &unshared, origin, tokenizer, readme, stored)?.write(folder)
}

const STOCK_USAGE: &str = "Any loader of this family opens it, with no custom code:\n\n```python\n\
    from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
    model = AutoModelForCausalLM.from_pretrained(\".\")\n\
    tokenizer = AutoTokenizer.from_pretrained(\".\")\n```";

fn stack<'a>(
    config: &TransformerConfig,
    tensors: &BTreeMap<String, Tensor>,
    origin: String,
    tokenizer: Option<&'a Tokenizer>,
    readme: String,
    stored: StoredType,
) -> Result<Export<'a>> {
    config.validate()?;
    let family = Family::named(&config.family)?;
    let renamed = chosen(tensors, config.tensors())?.into_iter().map(|(name, tensor)| {
        let published = family.hf_name(&name).ok_or_else(|| {
            Error::internal(format!("family {} has no name for `{name}`", family.name))
        })?;
        Ok((published, tensor))
    });
    let tensors = renamed.collect::<Result<_>>()?;
    Ok(Export { keys: family.hf_config(config)?, tensors, origin, readme, tokenizer, stored })
}

fn summary(config: &LoopedConfig) -> String {
    let (own, teacher) = (Parameters::of_student(config), Parameters::of_stack(&config.base));
    format!(
        "A factored {}: a prelude of {} layers, a core of {} layers applied {} times, a coda of \
         {}. It was distilled from {} layers; its own have {:.1} % of their parameters ({} of {}), \
         with embeddings {} of {}.",
        config.base.family,
        config.prelude_layers,
        config.core_layers,
        config.repetitions,
        config.coda_layers,
        config.base.layers,
        100.0 * own.blocks as f64 / teacher.blocks as f64,
        own.blocks,
        teacher.blocks,
        own.total,
        teacher.total
    )
}

/// The tensors of a list, each of its shape.
fn chosen(
    tensors: &BTreeMap<String, Tensor>,
    wanted: Vec<(String, Vec<usize>)>,
) -> Result<BTreeMap<String, Tensor>> {
    let find = |(name, shape): (String, Vec<usize>)| {
        let tensor = tensors
            .get(&name)
            .ok_or_else(|| Error::input(format!("tensor `{name}` is missing: nothing exported")))?;
        if tensor.dims() != shape {
            let found = tensor.dims();
            let message = format!("tensor `{name}` is {found:?}, the config says {shape:?}");
            return Err(Error::input(message).hint("nothing was exported"));
        }
        Ok((name, tensor.clone()))
    };
    wanted.into_iter().map(find).collect()
}

/// The content of a folder.
struct Export<'a> {
    keys: Value,
    /// By their names in the file.
    tensors: BTreeMap<String, Tensor>,
    /// What the metadata of the file says under [`KEY`].
    origin: String,
    readme: String,
    tokenizer: Option<&'a Tokenizer>,
    stored: StoredType,
}

impl Export<'_> {
    fn write(mut self, folder: &Path) -> Result<()> {
        self.keys["torch_dtype"] = json!(self.stored.torch_name());
        let metadata = [
            ("format", "pt".to_owned()),
            (KEY, self.origin),
            ("factorexe_version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        replace_folder(folder, &is_export, |folder| {
            let text = |name: &str, text: &str| {
                let path = folder.join(name);
                fs::write(&path, text).map_err(|error| Error::io("writing", &path, &error))
            };
            text("config.json", &format!("{:#}\n", self.keys))?;
            text("README.md", &self.readme)?;
            self.tokenizer.map_or(Ok(()), |tokenizer| tokenizer.save(folder))?;
            let path = folder.join("model.safetensors");
            write_tensors(&path, &self.tensors, &metadata, self.stored)
        })
    }
}

/// Whether a folder holds an export of this program and nothing else, so that nothing of the
/// user's is lost with it.
fn is_export(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let known = |name: &std::ffi::OsStr| FILES.iter().any(|file| name == *file);
    entries.flatten().all(|entry| known(&entry.file_name()))
        && has_metadata(&folder.join("model.safetensors"))
}

fn has_metadata(path: &Path) -> bool {
    use std::io::Read;
    let mut length = [0; 8];
    let Ok(mut file) = fs::File::open(path) else { return false };
    if file.read_exact(&mut length).is_err() {
        return false;
    }
    let mut header = Vec::new();
    let read = file.take(u64::from_le_bytes(length).min(LONGEST_HEADER)).read_to_end(&mut header);
    let header: Value = serde_json::from_slice(&header).unwrap_or_default();
    read.is_ok() && header["__metadata__"][KEY].is_string()
}
