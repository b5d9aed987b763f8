//! Models from checkpoints, ready to compute on a device.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::context::Context;
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::hub::{Checkpoint, Source};
use crate::model::{CausalLm, LoopedTransformer, Transformer};

/// An unshared or a factored model.
#[derive(Debug, Clone)]
pub enum Model {
    /// An unshared model: every layer has its own weights.
    Deep(Box<Transformer>),
    /// A factored model: prelude, core x N, coda.
    Looped(Box<LoopedTransformer>),
}

impl Model {
    /// The interface that both share.
    #[must_use]
    pub fn lm(&self) -> &dyn CausalLm {
        match self {
            Self::Deep(model) => model.as_ref(),
            Self::Looped(model) => model.as_ref(),
        }
    }
}

/// A checkpoint with its model.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The checkpoint, on the CPU.
    pub checkpoint: Checkpoint,
    /// The model, on the device.
    pub model: Model,
}

impl Loaded {
    /// Reads what `source` names: a folder, a GGUF file, a repository of the Hub, or a run folder
    /// with a student or a model in it.
    ///
    /// # Errors
    /// It cannot be read or downloaded, is damaged, or its tensors do not fit its configuration.
    pub fn read(source: &str, context: &Context) -> Result<Self> {
        let source: Source = inside_run(source).parse()?;
        let checkpoint = source.load(context)?;
        let tensors = on(&checkpoint.tensors, context.device())?;
        let model = match &checkpoint.looped {
            Some(config) => Model::Looped(Box::new(LoopedTransformer::new(config, &tensors)?)),
            None => Model::Deep(Box::new(Transformer::new(&checkpoint.config, &tensors)?)),
        };
        Ok(Self { checkpoint, model })
    }

    /// The unshared model.
    ///
    /// # Errors
    /// It is a student.
    pub fn deep(&self) -> Result<&Transformer> {
        match &self.model {
            Model::Deep(model) => Ok(model),
            Model::Looped(_) => Err(Error::input("this is a student, where a teacher is expected")
                .at(&self.checkpoint.origin)
                .hint("give the deep model it was made from")),
        }
    }

    /// The factored model.
    ///
    /// # Errors
    /// It is not a student.
    pub fn looped(&self) -> Result<&LoopedTransformer> {
        match &self.model {
            Model::Looped(model) => Ok(model),
            Model::Deep(_) => Err(Error::input("this is not a student: its layers are not shared")
                .at(&self.checkpoint.origin)
                .hint("a student is the folder `student` of a run of `factorize distill`")),
        }
    }

    /// The tokenizer of the model.
    ///
    /// # Errors
    /// It came without one, or with one of another vocabulary.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.checkpoint.own_tokenizer()
    }
}

/// The student or model inside a run folder; other sources stay as they are.
fn inside_run(source: &str) -> String {
    let is_model = |folder: &Path| folder.join("config.json").exists();
    let folder = Path::new(source);
    ["student", "model"]
        .map(|made| folder.join(made))
        .into_iter()
        .find(|made| !is_model(folder) && is_model(made))
        .map_or_else(|| source.to_owned(), |made| made.to_string_lossy().into_owned())
}

/// Copies tensors to a device.
pub(super) fn on(
    tensors: &BTreeMap<String, Tensor>,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>> {
    tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.to_device(device)?))).collect()
}

/// The device called `cpu`, `cuda`, `cuda:1` or `metal`.
///
/// # Errors
/// There is no such device, or this build does not know it.
pub fn device(name: &str) -> Result<Device> {
    let (kind, index) = name.split_once(':').map_or((name, "0"), |(kind, index)| (kind, index));
    let index: usize = index.parse().map_err(|_| no_device(name))?;
    let missing = |feature: &str| {
        Error::input(format!("this `factorize` was built without {feature}"))
            .hint(format!("build it with: cargo build --release --features {feature}"))
    };
    let failed = |error: candle_core::Error| {
        Error::input(format!("there is no device `{name}`: {error}"))
            .hint("--device cpu works everywhere")
    };
    match kind {
        "cpu" if !name.contains(':') => Ok(Device::Cpu),
        "cuda" if !candle_core::utils::cuda_is_available() => Err(missing("cuda")),
        "cuda" => Device::new_cuda(index).map_err(failed),
        "metal" if !candle_core::utils::metal_is_available() => Err(missing("metal")),
        "metal" => Device::new_metal(index).map_err(failed),
        _ => Err(no_device(name)),
    }
}

fn no_device(name: &str) -> Error {
    Error::input(format!("`{name}` is not a device")).hint("expected cpu, cuda, cuda:1 or metal")
}
