//! What does a study say, and how is that brought up to date?

use std::path::Path;

use serde::Serialize;

use super::sweep::{StudyKind, Sweep};
use super::{exits, law, scaling};
use crate::error::Result;
use crate::recipe::read_as;

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

/// Fits the laws of the study in a folder, if there is one, to what is done by now, however the
/// study ended.
///
/// # Errors
/// Its recipe or its list of points is damaged, or the disk is full.
pub fn refresh(folder: &Path) -> Result<()> {
    let Some(sweep) = Sweep::read(folder)? else { return Ok(()) };
    let recipe = folder.join("recipe.toml");
    match sweep.kind() {
        StudyKind::Law => law::measure(&read_as(&recipe, &[])?, &sweep)?.write(folder),
        StudyKind::Exits => exits::measure(&read_as(&recipe, &[])?, &sweep)?.write(folder),
        StudyKind::Scaling => scaling::measure(&read_as(&recipe, &[])?, &sweep)?.write(folder),
    }
}
