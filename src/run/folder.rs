//! Run folders: whose they are, and what is already in them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::disk::{RunLock, is_unfinished, write_atomically};
use crate::distill::{Layers, Recompute};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::train::{Checkpoints, Resume};

/// What to do about a run that is already in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse, and leave it as it is.
    Refuse,
    /// Resume it; begin a new one if there is none.
    Resume,
    /// Delete it and begin a new one.
    Replace,
}

/// Files that a run writes and `--force` deletes. Anything else in the folder stays. The recipe is
/// deleted last: it marks the folder as a run if deleting is interrupted.
const MADE: [&str; 9] = [
    "checkpoints",
    "metrics.jsonl",
    "tensorboard",
    "eval.json",
    "untrained.json",
    "tokenizer",
    "student",
    "model",
    "recipe.toml",
];

/// A run folder that no other process uses.
#[derive(Debug)]
pub(super) struct RunFolder {
    pub(super) path: PathBuf,
    pub(super) lock: RunLock,
    /// Whether the trainer resumes from a checkpoint.
    pub(super) resume: Resume,
    /// Whether a checkpoint holds the parameters, so that their initial values do not matter.
    pub(super) has_checkpoint: bool,
}

/// Whether the run in the folder is finished.
#[must_use]
pub fn finished(folder: &Path) -> bool {
    folder.join("eval.json").exists()
}

impl RunFolder {
    /// Locks the folder for `recipe`, and copies what `auto` decided in the run that is resumed.
    pub(super) fn claim(out: &Path, existing: Existing, recipe: &mut Recipe) -> Result<Self> {
        refuse_foreign(out)?;
        let lock = RunLock::acquire(out)?;
        remove_unfinished(out);
        let steps = Checkpoints::new(out, 1).steps()?;
        let recipe_file = out.join("recipe.toml");
        match existing {
            Existing::Refuse => {
                refuse(out, steps.last().copied(), recipe)?;
                clear(out)?;
            }
            Existing::Resume if recipe_file.exists() => continue_as(&recipe_file, recipe)?,
            Existing::Resume => {}
            Existing::Replace => clear(out)?,
        }
        let has_checkpoint = existing == Existing::Resume && !steps.is_empty();
        write_atomically(&recipe_file, recipe.to_toml()?.as_bytes())?;
        let resume = match existing {
            Existing::Resume => Resume::IfPresent,
            Existing::Refuse | Existing::Replace => Resume::Fresh,
        };
        Ok(Self { path: out.to_owned(), lock, resume, has_checkpoint })
    }

    /// A file of the run.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn refuse(out: &Path, step: Option<u64>, recipe: &Recipe) -> Result<()> {
    let there = if finished(out) {
        "a finished run".to_owned()
    } else if let Some(step) = step {
        format!("an unfinished run, at step {step} of {}", recipe.train.steps)
    } else {
        // A run that was stopped before its first checkpoint has nothing to lose.
        return Ok(());
    };
    Err(Error::input(format!("this folder already holds {there}")).at(out.display()).hint(
        "resume it with --resume, begin again with --force (which deletes it), or give another \
         folder with --out",
    ))
}

/// Refuses a folder with foreign files: they are neither mixed with a run nor deleted for one.
fn refuse_foreign(out: &Path) -> Result<()> {
    let entries = match fs::read_dir(out) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| Error::io("opening the run folder", out, &error))?,
    };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let is_run = ["lock", "recipe.toml"].iter().all(|made| names.iter().any(|name| name == made));
    if is_run {
        return Ok(());
    }
    // A run that was killed before it wrote its recipe leaves no more than this.
    let own = |name: &OsString| name == "lock" || is_unfinished(name, &MADE);
    match names.iter().find(|name| !own(name)) {
        None => Ok(()),
        Some(name) => Err(Error::input(format!(
            "this folder holds other files, such as `{}`",
            name.to_string_lossy()
        ))
        .at(out.display())
        .hint("give a new or an empty folder with --out")),
    }
}

/// Removes files that killed runs left unfinished; only the holder of the lock may call it.
fn remove_unfinished(out: &Path) {
    for entry in fs::read_dir(out).into_iter().flatten().flatten() {
        if is_unfinished(&entry.file_name(), &MADE) {
            let path = entry.path();
            // A file that cannot be removed only takes space.
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

fn clear(out: &Path) -> Result<()> {
    for name in MADE {
        let path = out.join(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("deleting", &path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses to resume a run with another experiment. Training, evaluation, samples and name may
/// change: the trainer reports what that means.
fn continue_as(begun: &Path, recipe: &mut Recipe) -> Result<()> {
    let text = fs::read_to_string(begun).map_err(|error| Error::io("reading", begun, &error))?;
    let damaged = |error: toml::de::Error| {
        Error::input(format!("the recipe of this run cannot be read: {}", error.message()))
            .at(begun.display())
            .hint("begin again with --force, or give another folder with --out")
    };
    let old: Recipe = toml::from_str(&text).map_err(damaged)?;
    if let (Some(old), Some(new)) = (&old.student, &mut recipe.student) {
        for (old, new) in
            [(old.prelude_layers, &mut new.prelude_layers), (old.coda_layers, &mut new.coda_layers)]
        {
            if matches!(new, Layers::Auto(_)) {
                *new = old;
            }
        }
    }
    if let (Some(old), Some(new)) = (&old.depth, &mut recipe.depth)
        && new.recompute == Recompute::Auto
    {
        new.recompute = old.recompute;
    }
    let tables = (fixed_part(&old)?, fixed_part(recipe)?);
    match first_difference(&tables.0, &tables.1, "") {
        None => Ok(()),
        Some((key, old, new)) => Err(Error::input(format!(
            "this run was begun with another recipe: `{key}` was {old}, and is {new} now"
        ))
        .at(begun.display())
        .hint("give another folder with --out, or begin again with --force")),
    }
}

/// The part of a recipe that may not change when a run is resumed.
fn fixed_part(recipe: &Recipe) -> Result<Table> {
    let mut table = Table::try_from(recipe)
        .map_err(|error| Error::internal(format!("writing the recipe: {error}")))?;
    for key in ["name", "train", "eval", "generate"] {
        table.remove(key);
    }
    Ok(table)
}

fn first_difference(old: &Table, new: &Table, path: &str) -> Option<(String, String, String)> {
    let show = |value: Option<&Value>| value.map_or("absent".to_owned(), ToString::to_string);
    old.keys().chain(new.keys()).find_map(|key| {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => first_difference(old, new, &full),
            (old, new) if old == new => None,
            (old, new) => Some((full, show(old), show(new))),
        }
    })
}
