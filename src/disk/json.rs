//! Atomic writes of JSON files.

use std::path::Path;

use serde::Serialize;

use super::atomic::write_atomically;
use crate::error::{Error, Result};

/// Writes a value as JSON, atomically.
///
/// # Errors
/// The disk is full, or the folder cannot be written to.
pub(crate) fn write_json<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::internal(format!("writing {}: {error}", path.display())))?;
    write_atomically(path, &text)
}
