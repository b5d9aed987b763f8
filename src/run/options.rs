//! Options of a run that are not part of its recipe.

use std::path::PathBuf;

use super::folder::Existing;
use super::provenance::Provenance;
use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// Options of a run that are not part of its recipe: the folder and the context.
#[derive(Debug, Clone)]
pub struct Options {
    /// The run folder.
    pub out: PathBuf,
    /// What to do about a run that is already in the folder.
    pub existing: Existing,
    /// Device, observer, cancellation, cache and threads.
    pub context: Context,
    /// Program, machine, command and date, as `eval.json` records them.
    pub provenance: Provenance,
}

impl Options {
    /// Stops the run between two of its parts when it is cancelled.
    ///
    /// # Errors
    /// The context is cancelled.
    pub(super) fn check_cancelled(&self, before: &str) -> Result<()> {
        self.context.check_cancelled(&format!("before {before}")).map_err(with_resume_hint)
    }
}

/// Adds the hint to resume to an interruption: what was saved is used again.
pub(super) fn with_resume_hint(error: Error) -> Error {
    if error.kind() == Kind::Interrupted {
        return error.hint("resume with the same command and --resume");
    }
    error
}
