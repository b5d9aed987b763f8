//! Export of students, stacks and unrolled students as safetensors checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::about::{self, About};
use super::adapter::Family;
use super::card::{Card, Usage};
use super::cut::{SHARD_BYTES, is_part, write_checkpoint};
use super::header::LONGEST_HEADER;
use super::looped::{KEY, MODEL_TYPE};
use super::store::StoredType;
use crate::data::Tokenizer;
use crate::disk::replace_folder;
use crate::error::{Error, Result, counted};
use crate::model::{LoopedConfig, Parameters, TransformerConfig, unroll};

/// The class that would compute a student in transformers.
const ARCHITECTURE: &str = "FactorexeLoopedForCausalLM";
/// All files that an export may hold beside its weights.
const FILES: [&str; 6] = [
    "README.md",
    "config.json",
    "generation_config.json",
    "halting.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Writes a student into `folder`, as [`super::Source`] reads it back, atomically. An
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
    student(config, tensors, tokenizer, card, stored)?.write(folder)
}

fn student<'a>(
    config: &LoopedConfig,
    tensors: &BTreeMap<String, Tensor>,
    tokenizer: Option<&'a Tokenizer>,
    card: &Card,
    stored: StoredType,
) -> Result<Export<'a>> {
    config.validate()?;
    let mut keys = Family::named(&config.base.family)?.hf_config(&config.base)?;
    keys["model_type"] = json!(MODEL_TYPE);
    keys["architectures"] = json!([ARCHITECTURE]);
    keys["num_hidden_layers"] = json!(config.applications(config.repetitions));
    keys[KEY] = json!(config);
    let text = if config.is_chain() {
        "Run it with FactorExe, at any number of repetitions, or unroll it for other programs:\n\n\
         ```sh\nfactorize generate --model . --prompt \"...\"\n\
         factorize export . --unrolled --out plain\n```"
    } else {
        "Run it with FactorExe, at any number of repetitions:\n\n```sh\n\
         factorize generate --model . --prompt \"...\"\n```"
    };
    Ok(Export {
        keys,
        tensors: chosen(tensors, config.tensors())?,
        origin: json!(config).to_string(),
        readme: card.render(&summary(config), &Usage { text, library: "factorexe" }),
        about: card.about.clone(),
        tokenizer,
        stored,
        shard_bytes: SHARD_BYTES,
    })
}

/// Writes an unshared stack into `folder`, as stock loaders of its family read it.
///
/// # Errors
/// As [`export_student`]; or the `config.json` of the family cannot express the stack.
pub fn export_stack(
    folder: &Path,
    config: &TransformerConfig,
    tensors: &BTreeMap<String, Tensor>,
    tokenizer: Option<&Tokenizer>,
    card: &Card,
    stored: StoredType,
) -> Result<()> {
    let summary = format!(
        "A {} of {}, {} wide, {} parameters.",
        config.family,
        counted(config.layers, "layer"),
        config.width,
        Parameters::of_stack(config).total
    );
    let origin = json!({"family": config.family, "layers": config.layers}).to_string();
    stack(config, tensors, origin, tokenizer, card, &summary, stored)?.write(folder)
}

/// Writes the unshared stack that computes what a student computes at `repetitions` (N when
/// absent), as stock loaders of its teacher's family read it: no custom code, the same logits.
///
/// # Errors
/// As [`export_stack`]; or the student has an injection or a norm between its repetitions, which no
/// stack computes.
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
        "{}\n\nHere it is unrolled at {} into {} with weights of \
         their own, corrections merged: an ordinary {} that gives the same logits.",
        summary(config),
        counted(repetitions, "repetition"),
        counted(unrolled.layers, "layer"),
        config.base.family
    );
    let unshared = unroll(config, &tensors, repetitions)?;
    stack(&unrolled, &unshared, origin, tokenizer, card, &summary, stored)?.write(folder)
}

const STOCK_USAGE: Usage = Usage {
    library: "transformers",
    text: "Any loader of this family opens it, with no custom code:\n\n```python\n\
    from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
    model = AutoModelForCausalLM.from_pretrained(\".\")\n\
    tokenizer = AutoTokenizer.from_pretrained(\".\")\n```",
};

fn stack<'a>(
    config: &TransformerConfig,
    tensors: &BTreeMap<String, Tensor>,
    origin: String,
    tokenizer: Option<&'a Tokenizer>,
    card: &Card,
    summary: &str,
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
    let keys = family.hf_config(config)?;
    let readme = card.render(summary, &STOCK_USAGE);
    let (about, shard_bytes) = (card.about.clone(), SHARD_BYTES);
    Ok(Export { keys, tensors, origin, readme, about, tokenizer, stored, shard_bytes })
}

fn summary(config: &LoopedConfig) -> String {
    let (own, teacher) = (Parameters::of_student(config), Parameters::of_stack(&config.base));
    format!(
        "A factored {}: a prelude of {}, a core of {} applied {}, a coda of {}. It was distilled from \
         {}; its own have {:.1} % of their parameters ({} of {}), with embeddings {} of {}.",
        config.base.family,
        counted(config.prelude_layers, "layer"),
        counted(config.core_layers, "layer"),
        counted(config.repetitions, "time"),
        counted(config.coda_layers, "layer"),
        counted(config.base.layers, "layer"),
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
            let message = format!("tensor `{name}` is {found:?}, the config implies {shape:?}");
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
    /// The value of [`KEY`] in the metadata of the file.
    origin: String,
    readme: String,
    about: About,
    tokenizer: Option<&'a Tokenizer>,
    stored: StoredType,
    shard_bytes: usize,
}

impl Export<'_> {
    /// The token that fills short rows of a batch: the tokenizer's own, else the one that ends a text.
    fn pad_token(&self) -> Option<u32> {
        let own = self.tokenizer.and_then(|tokenizer| tokenizer.special().pad);
        let first = |ends: &Value| ends.as_u64().or_else(|| ends.get(0)?.as_u64());
        own.or_else(|| first(&self.keys["eos_token_id"]).and_then(|id| u32::try_from(id).ok()))
    }

    /// What `generate` of stock loaders reads: the tokens that begin, end and fill a text.
    fn generation_config(&self) -> Value {
        let pad = json!(self.pad_token());
        let keys = [
            ("bos_token_id", &self.keys["bos_token_id"]),
            ("eos_token_id", &self.keys["eos_token_id"]),
            ("pad_token_id", &pad),
        ];
        let given = keys.into_iter().filter(|(_, token)| !token.is_null());
        given.map(|(key, token)| (key.to_owned(), token.clone())).collect::<Map<_, _>>().into()
    }

    fn write(mut self, folder: &Path) -> Result<()> {
        self.keys["torch_dtype"] = json!(self.stored.torch_name());
        self.keys["pad_token_id"] = json!(self.pad_token());
        if !self.about.is_empty() {
            self.keys[about::KEY] = json!(self.about);
        }
        let generation = self.generation_config();
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
            text("generation_config.json", &format!("{generation:#}\n"))?;
            text("README.md", &self.readme)?;
            self.tokenizer.map_or(Ok(()), |tokenizer| tokenizer.save(folder))?;
            write_checkpoint(folder, &self.tensors, &metadata, self.stored, self.shard_bytes)
        })
    }
}

/// Whether a folder holds an export of this program and nothing else, so that nothing of the
/// user's is lost with it.
fn is_export(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let (weights, rest): (Vec<_>, Vec<_>) = names.partition(|name| is_part(name));
    let mut files = weights.iter().filter(|name| name.ends_with(".safetensors")).peekable();
    rest.iter().all(|name| FILES.contains(&name.as_str()))
        && files.peek().is_some()
        && files.all(|name| has_metadata(&folder.join(name)))
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::source::Source;
    use super::*;
    use crate::autograd::Tape;
    use crate::context::Context;
    use crate::model::{CausalLm, Injection, LoopedTransformer, Relaxation, StateNorm};

    fn logits(config: &LoopedConfig, tensors: &BTreeMap<String, Tensor>) -> Vec<f32> {
        let model = LoopedTransformer::new(config, tensors).unwrap();
        let ids = Tensor::new(&[[1_u32, 5, 9, 2]], &Device::Cpu).unwrap();
        let states = model.states(&Tape::off(), &ids, config.repetitions).unwrap();
        let logits = model.embedding_and_head().logits(states.last().unwrap().tensor()).unwrap();
        logits.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_checkpoint_cut_into_shards_comes_back_to_the_bit_and_is_replaced_whole() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3");
        let teacher = Source::Folder(fixture).load(&Context::cpu()).unwrap();
        let config = LoopedConfig {
            prelude_layers: 0,
            core_layers: 1,
            repetitions: teacher.config.layers,
            coda_layers: 0,
            relaxation: Relaxation::None,
            injection: Injection::None,
            state_norm: StateNorm::None,
            gate: None,
            base: teacher.config,
        };
        let numbers = |(name, shape): (String, Vec<usize>)| {
            let count: usize = shape.iter().product();
            let values = (0..count).map(|i| ((i * 37 + name.len()) % 101) as f32 / 101.0 - 0.4);
            let values = values.collect::<Vec<_>>();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        };
        let tensors: BTreeMap<_, _> = config.tensors().into_iter().map(numbers).collect();
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("student");
        let export = |shard_bytes: usize| {
            let card = Card::default();
            let made = student(&config, &tensors, None, &card, StoredType::F32).unwrap();
            Export { shard_bytes, ..made }.write(&folder).unwrap();
            let back = Source::Folder(folder.clone()).load(&Context::cpu()).unwrap();
            assert_eq!(logits(&config, &back.tensors), logits(&config, &tensors));
            let mut names: Vec<_> = fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| is_part(name))
                .collect();
            names.sort();
            names
        };
        let bytes: usize = tensors.values().map(|tensor| 4 * tensor.elem_count()).sum();
        // Shards, one file and shards again: nothing of the earlier export is left.
        for shard_bytes in [bytes / 3, bytes, 1] {
            let names = export(shard_bytes);
            if shard_bytes == bytes {
                assert_eq!(names, ["model.safetensors"]);
                continue;
            }
            let shards = names.len() - 1;
            assert!(shards >= 3, "{names:?}");
            assert_eq!(names[0], format!("model-00001-of-{shards:05}.safetensors"));
            assert_eq!(names[shards], "model.safetensors.index.json");
            let index = fs::read(folder.join(&names[shards])).unwrap();
            let index: Value = serde_json::from_slice(&index).unwrap();
            assert_eq!(index["metadata"]["total_size"], bytes);
            assert_eq!(index["weight_map"].as_object().unwrap().len(), tensors.len());
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
