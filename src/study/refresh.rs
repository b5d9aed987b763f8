//! Refitting of the laws of a study to the points that are done.

use std::path::Path;

use super::findings::Findings;
use super::sweep::{StudyKind, Sweep};
use super::{halting, law, scaling};
use crate::error::{Error, Result};
use crate::recipe::read_as;

/// Refuses a study none of whose points is done: a page of it would be empty.
///
/// # Errors
/// There is a study in the folder, and no point of it is done.
pub fn refuse_empty(folder: &Path) -> Result<()> {
    // A damaged list of points is told when the findings are brought up to date.
    let Ok(Some(sweep)) = Sweep::read(folder) else { return Ok(()) };
    let total = sweep.points().len();
    if sweep.missing().len() < total {
        return Ok(());
    }
    let failed = sweep.failures().into_iter().next();
    let why = failed.map(|failure| format!("; the first failed: {}", failure.error));
    Err(Error::input(format!(
        "none of the {total} points of this study is done{}",
        why.unwrap_or_default()
    ))
    .at(folder.display())
    .hint(format!("carry it out first: {} --resume", sweep.command())))
}

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
