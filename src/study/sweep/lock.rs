//! The lock of a study folder, and the estimate of what is left to compute.

use std::path::Path;

use serde::Serialize;

use super::points::Sweep;
use crate::disk::{RunLock, write_atomically};
use crate::error::{Error, Result};
use crate::run::Existing;

/// Multiply-adds a core does in a second of training small blocks, roughly; see `bench step`.
const SPEED: f64 = 2.5e10;

impl Sweep {
    /// The points left and a rough estimate of their time on `processes` cores.
    #[must_use]
    pub fn budget(&self, processes: usize) -> String {
        let missing = self.missing();
        let cost: f64 = missing.iter().map(|point| point.job.cost()).sum();
        let minutes = cost / SPEED / processes.max(1) as f64 / 60.0;
        let (left, all) = (missing.len(), self.points().len());
        let done = if left == all { String::new() } else { format!(" of {all}") };
        format!("{left}{done} points to do, about {minutes:.0} min on cores like these")
    }
}

/// Takes the folder of `sweep`, writes `recipe.toml` and the list of points. The lock is held as
/// long as the study.
///
/// # Errors
/// Something else is there, another study is there or under way, or the folder cannot be written
/// to.
pub fn open(sweep: &Sweep, existing: Existing, recipe: &impl Serialize) -> Result<RunLock> {
    let folder = sweep.folder();
    let lock = RunLock::acquire(folder)?;
    let refuse = |what: &str, hint: &str| Err(Error::input(what).at(folder.display()).hint(hint));
    match (Sweep::read(folder), existing) {
        (Ok(None), _) if folder.join("recipe.toml").exists() => {
            return refuse(
                "this folder holds a run, not a study",
                "give another folder with --out",
            );
        }
        (Ok(None), _) => {}
        (_, Existing::Replace) => clear(folder)?,
        (_, Existing::Refuse) => {
            return refuse(
                "this folder holds a study",
                "continue with --resume, delete it with --force, or give another --out",
            );
        }
        (Ok(Some(there)), Existing::Resume) if there.kind() != sweep.kind() => {
            return refuse(
                "this folder holds a study of other laws",
                "delete it with --force, or give another --out",
            );
        }
        // A damaged list is rewritten.
        (_, Existing::Resume) => {}
    }
    sweep.write()?;
    let text = toml::to_string(recipe)
        .map_err(|error| Error::internal(format!("writing the recipe: {error}")))?;
    write_atomically(&folder.join("recipe.toml"), text.as_bytes())?;
    Ok(lock)
}

/// Removes the files of a study, and nothing else.
fn clear(folder: &Path) -> Result<()> {
    let remove = |path: &Path| {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.map_err(|error| Error::io("removing", path, &error))
    };
    let made = [
        "points",
        "study.json",
        "points.csv",
        "recipe.toml",
        "law.json",
        "scaling.json",
        "exits.json",
        "report.html",
        "figures",
    ];
    made.iter()
        .map(|name| folder.join(name))
        .filter(|path| path.exists())
        .try_for_each(|path| remove(&path))
}
