//! What is a run made of, apart from its tensors?

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::autograd::Params;
use crate::error::{Error, Result};

/// The layout of a checkpoint folder; another number is another layout.
pub(super) const FORMAT: u32 = 1;

/// How far a run has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) step: u64,
    pub(super) tokens: u64,
    pub(super) skipped: u64,
    /// Steps skipped in a row, up to now.
    pub(super) bad_run: u64,
    pub(super) elapsed_s: f64,
    pub(super) loss: f64,
    pub(super) terms: BTreeMap<String, f64>,
}

/// Everything about a checkpoint but its tensors: `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// blake3 of `state.safetensors`.
    pub(super) checksum: String,
    pub(super) progress: Progress,
    /// Optimizer steps each parameter took part in.
    pub(super) updates: BTreeMap<String, u64>,
    pub(super) seed: u64,
    pub(super) config_hash: String,
    pub(super) config: serde_json::Value,
    pub(super) frozen: BTreeMap<String, FrozenMark>,
}

impl Manifest {
    pub(super) fn new(progress: Progress, updates: BTreeMap<String, u64>) -> Self {
        Self {
            format: FORMAT,
            checksum: String::new(),
            progress,
            updates,
            seed: 0,
            config_hash: String::new(),
            config: serde_json::Value::Null,
            frozen: BTreeMap::new(),
        }
    }
}

/// By what a frozen parameter, which is not saved, is known again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FrozenMark {
    shape: Vec<usize>,
    /// Sum of the magnitudes of the first numbers.
    sample: f64,
}

impl FrozenMark {
    const SAMPLE: usize = 64;

    /// The marks of all frozen parameters.
    pub(super) fn of(params: &Params) -> Result<BTreeMap<String, Self>> {
        let frozen = params.iter().filter(|(_, param)| !param.is_trainable());
        frozen.map(|(name, param)| Ok((name.to_owned(), Self::new(param.var())?))).collect()
    }

    fn new(values: &Tensor) -> Result<Self> {
        let first = values.detach().flatten_all()?;
        let first = first.narrow(0, 0, first.elem_count().min(Self::SAMPLE))?;
        let first: Vec<f32> = first.to_dtype(DType::F32)?.to_vec1()?;
        let sample = first.into_iter().map(|value| f64::from(value.abs())).sum();
        Ok(Self { shape: values.dims().to_vec(), sample })
    }

    /// Another device or number of threads may round a computed weight differently.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let close = 1e-3 * self.sample.max(other.sample);
        self.shape == other.shape && (self.sample - other.sample).abs() <= close
    }
}

/// A checkpoint read back: what is in it and where it lay.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) path: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl Restored {
    /// Copies the tensors called `{prefix}.{name}` into the trainable parameters.
    pub(super) fn set_parameters(&self, params: &Params, prefix: &str) -> Result<()> {
        for (name, _) in params.trainable() {
            let key = format!("{prefix}.{name}");
            let saved = self.tensors.get(&key).ok_or_else(|| {
                Error::input(format!("the checkpoint has no `{key}`, which the model trains"))
            })?;
            params.set(name, saved)?;
        }
        Ok(())
    }
}
