//! Options of a run that are not part of its recipe.

use std::path::PathBuf;

use candle_core::Device;

use super::folder::Existing;
use crate::error::{Error, Kind, Result};
use crate::observe::Observer;
use crate::train::Interrupt;

/// Options of a run that are not part of its recipe: folder, cache, device, observer.
#[derive(Clone)]
pub struct Options<'a> {
    /// The run folder.
    pub out: PathBuf,
    /// What to do about a run that is already in the folder.
    pub existing: Existing,
    /// Folder of the cached token files and teacher outputs.
    pub cache: PathBuf,
    /// Most bytes of all cached teacher outputs.
    pub cache_limit_bytes: u64,
    /// The device that computes.
    pub device: Device,
    /// Polled during the run; set to stop it.
    pub interrupt: Interrupt,
    /// Receives the progress.
    pub observer: &'a dyn Observer,
}

impl Options<'_> {
    /// Stops the run between two of its parts when it is cancelled.
    ///
    /// # Errors
    /// The interrupt is set.
    pub(super) fn check_cancelled(&self, before: &str) -> Result<()> {
        if self.interrupt.is_set() {
            return Err(with_resume_hint(Error::interrupted(format!("stopped before {before}"))));
        }
        Ok(())
    }
}

/// Adds the hint to resume to an interruption: what was saved is used again.
pub(super) fn with_resume_hint(error: Error) -> Error {
    if error.kind() == Kind::Interrupted {
        return error.hint("resume with the same command and --resume");
    }
    error
}
