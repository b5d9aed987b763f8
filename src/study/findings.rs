//! The trait of the results of a study.

use std::path::Path;

use serde::Serialize;

use crate::error::Result;

/// What was fitted to the points of a study that are done.
pub trait Findings: Serialize {
    /// Writes them down as JSON, and what they rest on as CSV.
    ///
    /// # Errors
    /// The disk is full, or the folder cannot be written to.
    fn write(&self, folder: &Path) -> Result<()>;

    /// Tables, each a head, then rows.
    fn tables(&self) -> Vec<Vec<Vec<String>>>;

    /// The same in words.
    fn sentences(&self) -> Vec<String> {
        Vec::new()
    }
}
