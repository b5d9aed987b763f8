//! Reading a checkpoint from wherever it is.

use super::checkpoint::Checkpoint;
use super::client::HubConfig;
use super::gguf::load_gguf;
use super::source::Source;
use super::{folder, remote};
use crate::context::Context;
use crate::error::Result;

impl Source {
    /// Reads the checkpoint, from the network if necessary.
    ///
    /// # Errors
    /// It cannot be had, is damaged, or its family does not fit.
    pub fn load(&self, context: &Context) -> Result<Checkpoint> {
        let mut checkpoint = match self {
            Self::Folder(path) => folder::load(path, context)?,
            Self::Gguf(path) => load_gguf(path, context)?,
            Self::Hub(id) => {
                let snapshot = remote::fetch(id, &HubConfig::from_env(), context)?;
                let mut checkpoint = folder::load(&snapshot, context)?;
                let about = &mut checkpoint.about;
                if checkpoint.looped.is_none() || about.hub_name.is_none() {
                    about.hub_name = Some(id.repository());
                }
                checkpoint
            }
        };
        checkpoint.origin = self.to_string();
        Ok(checkpoint)
    }
}
