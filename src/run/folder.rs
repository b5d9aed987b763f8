//! Whose is the run folder, and what is already in it?

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
    /// Say what is there, and leave it alone.
    Refuse,
    /// Go on with it; begin if there is none.
    Resume,
    /// Delete it and begin again.
    Replace,
}

/// What a run writes, and `--force` deletes. Anything else in the folder stays. The recipe goes
/// last: by it the folder is known when deleting was cut short.
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
    /// What the trainer does about checkpoints.
    pub(super) resume: Resume,
    /// A checkpoint holds the parameters: what they start as does not matter.
    pub(super) has_checkpoint: bool,
}

/// Whether the run in the folder came to its end.
#[must_use]
pub fn finished(folder: &Path) -> bool {
    folder.join("eval.json").exists()
}

impl RunFolder {
    /// Takes the folder for `recipe`; what `auto` found in the run that goes on is put into it.
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
        // One that was stopped before its first checkpoint is nothing to lose.
        return Ok(());
    };
    Err(Error::input(format!("this folder already holds {there}")).at(out.display()).hint(
        "go on with it by --resume, begin again by --force (which deletes it), or give another \
         folder with --out",
    ))
}

/// A folder of something else is not mixed with a run, nor deleted for one.
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
    // Killed before it wrote its recipe, a run leaves no more than this.
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

/// What killed runs left half-written; only the holder of the lock may judge it so.
fn remove_unfinished(out: &Path) {
    for entry in fs::read_dir(out).into_iter().flatten().flatten() {
        if is_unfinished(&entry.file_name(), &MADE) {
            let path = entry.path();
            // What cannot be removed takes room, no more.
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

/// Refuses to go on with another experiment than the one begun. How it is trained on, evaluated
/// and named may change: the trainer tells what it means.
fn continue_as(begun: &Path, recipe: &mut Recipe) -> Result<()> {
    let text = fs::read_to_string(begun).map_err(|error| Error::io("reading", begun, &error))?;
    let damaged = |error: toml::de::Error| {
        Error::input(format!("the recipe of this run cannot be read: {}", error.message()))
            .at(begun.display())
            .hint("begin again by --force, or give another folder with --out")
    };
    let old: Recipe = toml::from_str(&text).map_err(damaged)?;
    if let (Some(old), Some(new)) = (&old.student, &mut recipe.student) {
        for (old, new) in
            [(old.prelude_layers, &mut new.prelude_layers), (old.coda_layers, &mut new.coda_layers)]
        {
            if matches!(new, Layers::Found(_)) {
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
        .hint("give another folder with --out, or begin again by --force")),
    }
}

/// What may not change while a run goes on.
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
