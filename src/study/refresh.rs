//! Refitting of the laws of a study to the points that are done.

use std::path::Path;

use super::findings::Findings;
use super::sweep::{StudyKind, Sweep};
use super::{halting, law, scaling};
use crate::error::Result;
use crate::recipe::read_as;

/// Fits the laws of the study in a folder, if there is one, to the points done so far.
///
/// # Errors
/// Its recipe or its list of points is damaged, or the disk is full.
pub fn refresh(folder: &Path) -> Result<()> {
    let Some(sweep) = Sweep::read(folder)? else { return Ok(()) };
    let recipe = folder.join("recipe.toml");
    match sweep.kind() {
        StudyKind::Law => law::measure(&read_as(&recipe, &[])?, &sweep)?.write(folder),
        StudyKind::Exits => halting::measure(&read_as(&recipe, &[])?, &sweep)?.write(folder),
        StudyKind::Scaling => scaling::measure(&read_as(&recipe, &[])?, &sweep)?.write(folder),
    }
}
