//! How is a GGUF file read? (Stands in until the reader arrives.)

use std::path::Path;

use crate::error::{Error, Result};
use crate::observe::Observer;

use super::checkpoint::Checkpoint;

/// Refuses, for now.
///
/// # Errors
/// Always.
pub fn load_gguf(path: &Path, _observer: &dyn Observer) -> Result<Checkpoint> {
    Err(Error::input("GGUF files cannot be read yet").at(path.display()))
}
