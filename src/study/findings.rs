//! The trait of the results of a study.

use std::path::Path;

use serde::Serialize;

use crate::error::Result;

/// The results of a study, computed from the points that are done.
pub trait Findings: Serialize {
    /// Writes the results as JSON and the points as CSV.
    ///
    /// # Errors
    /// The disk is full, or the folder cannot be written to.
    fn write(&self, folder: &Path) -> Result<()>;

    /// Tables: a header row, then rows.
    fn tables(&self) -> Vec<Vec<Vec<String>>>;

    /// The results as sentences.
    fn sentences(&self) -> Vec<String> {
        Vec::new()
    }
}
