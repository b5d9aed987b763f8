//! Atomic checkpoints of a run, which survive a kill at any time.
//!
//! A checkpoint is written into a temporary folder, synced to the disk, and renamed, so that a
//! folder named `step-...` is complete. A checksum detects damage afterwards.

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::Device;
use safetensors::SafeTensorError;

use super::state::{FORMAT, Manifest, Restored};
use super::store::Saved;
use crate::autograd::Params;
use crate::context::Context;
use crate::disk::sync_folder;
use crate::error::{Error, Result};

const TENSORS: &str = "state.safetensors";
const MANIFEST: &str = "state.json";

/// Which weights of a run are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// The weights of the last step.
    Last,
    /// The exponential moving average.
    Ema,
}

/// Copies the weights of the newest readable checkpoint of a run into `params`; the value is its
/// step.
///
/// # Errors
/// There is none, or it belongs to another model.
pub fn restore_parameters(
    run_folder: &Path,
    params: &Params,
    weights: Weights,
    context: &Context,
) -> Result<u64> {
    let checkpoints = Checkpoints::new(run_folder, 1);
    let restored = checkpoints.latest(context)?.ok_or_else(|| {
        Error::input("there is no checkpoint in this run").at(checkpoints.folder.display())
    })?;
    let prefix = if weights == Weights::Ema { "ema" } else { "parameter" };
    restored
        .set_parameters(params, prefix)
        .map_err(|error| error.at(restored.path.display()))
        .map(|()| restored.manifest.progress.step)
}

/// The folder `checkpoints` of a run.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints of a run; saving one deletes all but the newest `keep`.
    #[must_use]
    pub fn new(run_folder: &Path, keep: usize) -> Self {
        Self { folder: run_folder.join("checkpoints"), keep: keep.max(1) }
    }

    /// The steps that have a checkpoint, intact or damaged, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> = self
            .names()?
            .iter()
            .filter_map(|name| name.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The folder of the checkpoint of a step.
    #[must_use]
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("listing checkpoints", &self.folder, &error)),
        };
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()
            .map_err(|error| Error::io("listing checkpoints", &self.folder, &error))
    }

    /// Writes a checkpoint atomically, then deletes the old ones.
    pub(super) fn save(
        &self,
        mut manifest: Manifest,
        tensors: Vec<(String, Saved<'_>)>,
    ) -> Result<PathBuf> {
        let done = self.path(manifest.progress.step);
        let temporary = self.folder.join(format!(".writing-step-{:08}", manifest.progress.step));
        let written = write(&temporary, &mut manifest, tensors).and_then(|()| {
            if done.exists() {
                // Only a damaged checkpoint is written again.
                std::fs::remove_dir_all(&done)
                    .map_err(|error| Error::io("replacing a damaged checkpoint", &done, &error))?;
            }
            std::fs::rename(&temporary, &done)
                .map_err(|error| Error::io("naming the checkpoint", &done, &error))?;
            sync_folder(&self.folder)
        });
        if written.is_err() {
            // The disk may be full: free the space. The first error is reported.
            let _ = std::fs::remove_dir_all(&temporary);
        }
        written?;
        self.prune(manifest.progress.step)?;
        Ok(done)
    }

    fn prune(&self, newest: u64) -> Result<()> {
        let steps = self.steps()?.into_iter().filter(|step| *step <= newest);
        let old = steps.rev().skip(self.keep).map(|step| self.path(step));
        let unfinished = self.names()?.into_iter().filter(|name| name.starts_with(".writing-"));
        for path in old.chain(unfinished.map(|name| self.folder.join(name))) {
            std::fs::remove_dir_all(&path)
                .map_err(|error| Error::io("deleting an old checkpoint", &path, &error))?;
        }
        Ok(())
    }

    /// The newest intact checkpoint; damaged ones are skipped with a warning.
    pub(super) fn latest(&self, context: &Context) -> Result<Option<Restored>> {
        let steps = self.steps()?;
        for step in steps.iter().rev() {
            let path = self.path(*step);
            match read(&path) {
                Ok(restored) => return Ok(Some(restored)),
                Err(error) => context.warn(&format!(
                    "a checkpoint is damaged, trying the one before: {}",
                    error.at(path.display())
                )),
            }
        }
        if steps.is_empty() {
            return Ok(None);
        }
        Err(Error::input(format!("none of the {} checkpoints can be read", steps.len()))
            .at(self.folder.display())
            .hint("start again in another folder, or delete this one and start without --resume"))
    }
}

fn write(folder: &Path, manifest: &mut Manifest, tensors: Vec<(String, Saved<'_>)>) -> Result<()> {
    let _ = std::fs::remove_dir_all(folder); // What a killed run left here.
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::io("making a checkpoint", folder, &error))?;
    let path = folder.join(TENSORS);
    let io = |error: std::io::Error| Error::io("writing a checkpoint", &path, &error);
    safetensors::serialize_to_file(tensors, None, &path).map_err(|error| match error {
        SafeTensorError::IoError(error) => io(error),
        other => Error::internal(format!("a checkpoint cannot be written: {other}")),
    })?;
    let file = File::open(&path).map_err(io)?;
    file.sync_all().map_err(io)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(io)?;
    manifest.checksum = hasher.finalize().to_hex().to_string();

    let path = folder.join(MANIFEST);
    let io = |error: std::io::Error| Error::io("writing a checkpoint", &path, &error);
    let json = serde_json::to_vec_pretty(manifest)
        .map_err(|error| Error::internal(format!("{MANIFEST} is not valid JSON: {error}")))?;
    std::fs::write(&path, json).map_err(io)?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(io)?;
    sync_folder(folder)
}

fn read(folder: &Path) -> Result<Restored> {
    let path = folder.join(MANIFEST);
    let json = std::fs::read(&path).map_err(|error| Error::io("reading", &path, &error))?;
    let manifest: Manifest = serde_json::from_slice(&json)
        .map_err(|error| Error::input(format!("{MANIFEST} is damaged: {error}")))?;
    if manifest.format != FORMAT {
        return Err(Error::input(format!(
            "the checkpoint has format {}, this program writes {FORMAT}",
            manifest.format
        )));
    }
    let path = folder.join(TENSORS);
    let bytes = std::fs::read(&path).map_err(|error| Error::io("reading", &path, &error))?;
    if blake3::hash(&bytes).to_hex().as_str() != manifest.checksum {
        return Err(Error::input(format!(
            "{TENSORS} does not have the checksum it was written with"
        )));
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    Ok(Restored { path: folder.to_owned(), manifest, tensors: tensors.into_iter().collect() })
}
