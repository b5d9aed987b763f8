//! Reading a checkpoint from wherever it is.

use super::checkpoint::Checkpoint;
use super::client::HubConfig;
use super::gguf::load_gguf;
use super::source::Source;
use super::{folder, remote};
use crate::error::{Result, Stopped};
use crate::observe::Observer;

impl Source {
    /// Reads the checkpoint, from the network if necessary. `stopped` is polled for cancellation.
    ///
    /// # Errors
    /// It cannot be had, is damaged, or its family does not fit.
    pub fn load(&self, observer: &dyn Observer, stopped: &Stopped) -> Result<Checkpoint> {
        let mut checkpoint = match self {
            Self::Folder(path) => folder::load(path, observer, stopped)?,
            Self::Gguf(path) => load_gguf(path, observer)?,
            Self::Hub(id) => {
                let snapshot = remote::fetch(id, &HubConfig::from_env(), observer, stopped)?;
                folder::load(&snapshot, observer, stopped)?
            }
        };
        checkpoint.origin = self.to_string();
        Ok(checkpoint)
    }
}
