//! Where and how a recipe is carried out.

use std::path::PathBuf;

use candle_core::Device;

use super::folder::Existing;
use crate::error::{Error, Kind, Result};
use crate::observe::Observer;
use crate::train::Interrupt;

/// Where and how a recipe is carried out.
#[derive(Clone)]
pub struct Options<'a> {
    /// The run folder.
    pub out: PathBuf,
    /// What to do about a run that is already there.
    pub existing: Existing,
    /// Where tokenised text and what teachers say is kept.
    pub cache: PathBuf,
    /// Most bytes that kept teachers take together.
    pub cache_limit_bytes: u64,
    /// Where the arithmetic happens.
    pub device: Device,
    /// Asked now and then whether to stop.
    pub interrupt: Interrupt,
    /// Told how far it has come.
    pub observer: &'a dyn Observer,
}

impl Options<'_> {
    /// Ends a run between two of its parts when the user asked for it.
    pub(super) fn go_on(&self, before: &str) -> Result<()> {
        if self.interrupt.is_set() {
            return Err(goes_on(Error::interrupted(format!("stopped before {before}"))));
        }
        Ok(())
    }
}

/// Wherever a run is stopped, what it made until then is used again.
pub(super) fn goes_on(error: Error) -> Error {
    if error.kind() == Kind::Interrupted {
        return error.hint("go on with the same command and --resume");
    }
    error
}
