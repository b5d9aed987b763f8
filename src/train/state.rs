//! The state of a run as a checkpoint stores it, apart from its tensors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::autograd::Params;
use crate::error::{Error, Result};

/// Version of the layout of a checkpoint folder.
pub(super) const FORMAT: u32 = 1;

/// Progress of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) step: u64,
    pub(super) tokens: u64,
    pub(super) skipped: u64,
    /// Steps skipped in a row up to the current one.
    pub(super) bad_run: u64,
    pub(super) elapsed_s: f64,
    pub(super) loss: f64,
    pub(super) terms: BTreeMap<String, f64>,
}

/// Everything in a checkpoint but its tensors: `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// blake3 of `state.safetensors`.
    pub(super) checksum: String,
    pub(super) progress: Progress,
    /// Optimizer updates of each parameter.
    pub(super) updates: BTreeMap<String, u64>,
    pub(super) seed: u64,
    pub(super) config_hash: String,
    pub(super) config: serde_json::Value,
    pub(super) frozen: BTreeMap<String, FrozenFingerprint>,
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

/// Fingerprint of a frozen parameter, which a checkpoint does not save: a run that is resumed checks
/// that the parameter is the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FrozenFingerprint {
    shape: Vec<usize>,
    /// Sum of the magnitudes of the first elements.
    sample: f64,
}

impl FrozenFingerprint {
    const SAMPLE: usize = 64;

    /// The fingerprints of all frozen parameters.
    pub(super) fn all(params: &Params) -> Result<BTreeMap<String, Self>> {
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

    /// Whether both are of the same parameter, up to rounding: another device or number of threads
    /// may round a computed weight differently.
    pub(super) fn matches(&self, other: &Self) -> bool {
        let close = 1e-3 * self.sample.max(other.sample);
        self.shape == other.shape && (self.sample - other.sample).abs() <= close
    }
}

/// A checkpoint read from disk.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) path: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl Restored {
    /// Copies the tensors named `{prefix}.{name}` into the trainable parameters.
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
