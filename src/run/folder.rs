//! Run folders: whose they are, and what is already in them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::fit::Place;
use crate::context::Context;
use crate::disk::{RunLock, is_unfinished, write_atomically};
use crate::error::{Error, Kind, Result};
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
    RECIPE,
];

/// The plan of the run, as a recipe.
const RECIPE: &str = "recipe.toml";

/// A run folder that no other process uses.
#[derive(Debug)]
pub(super) struct RunFolder {
    pub(super) path: PathBuf,
    pub(super) lock: RunLock,
    /// Whether the trainer resumes from a checkpoint.
    pub(super) resume: Resume,
    /// Whether a checkpoint holds the parameters, so that their initial values do not matter.
    pub(super) has_checkpoint: bool,
    /// Whether a finished run is resumed.
    was_finished: bool,
}

/// Whether the run in the folder is finished.
#[must_use]
pub fn finished(folder: &Path) -> bool {
    folder.join("eval.json").exists()
}

/// A run folder before its run began.
pub(super) struct Start {
    path: PathBuf,
    existed: bool,
}

impl Start {
    /// Notes whether the folder is there.
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), existed: path.exists() }
    }

    /// Removes what a start that failed left in a folder that it made: nothing was trained. A run
    /// that was interrupted is resumed from what is there.
    pub(super) fn undo(&self, error: Error) -> Error {
        let trained = ["checkpoints", "metrics.jsonl"];
        let began = trained.iter().any(|made| self.path.join(made).exists());
        if !self.existed && !began && error.kind() != Kind::Interrupted {
            // A folder that cannot be removed only takes space.
            let _ = fs::remove_dir_all(&self.path);
        }
        error
    }
}

impl RunFolder {
    /// Locks the folder for a run of `steps` steps.
    pub(super) fn claim(out: &Path, existing: Existing, steps: u64) -> Result<Self> {
        refuse_foreign(out)?;
        let lock = RunLock::acquire(out)?;
        remove_unfinished(out);
        let saved_steps = Checkpoints::new(out, 1).steps()?;
        match existing {
            Existing::Refuse => {
                refuse(out, saved_steps.last().copied(), steps)?;
                clear(out)?;
            }
            Existing::Resume => {}
            Existing::Replace => clear(out)?,
        }
        let has_checkpoint = existing == Existing::Resume && !saved_steps.is_empty();
        let was_finished = existing == Existing::Resume && finished(out);
        let resume = match existing {
            Existing::Resume => Resume::IfPresent,
            Existing::Refuse | Existing::Replace => Resume::Fresh,
        };
        Ok(Self { path: out.to_owned(), lock, resume, has_checkpoint, was_finished })
    }

    /// `recipe` as it is carried out in this folder: what a run that is resumed chose where it says
    /// `auto` stays chosen. Another experiment is refused; training, evaluation, samples and name may
    /// change.
    pub(super) fn continued(&self, recipe: Recipe) -> Result<Recipe> {
        let path = self.file(RECIPE);
        let Some(recorded) = read_recorded(&path)?.filter(|_| self.resume == Resume::IfPresent)
        else {
            return Ok(recipe);
        };
        let recipe = recipe.with_choices_of(&recorded);
        // The same paths are the same recipe, wherever the command is run.
        let absolute = |recipe: &Recipe| {
            let mut absolute = recipe.clone();
            absolute.make_absolute();
            fixed_part(&absolute)
        };
        let (old, new) = (absolute(&recorded)?, absolute(&recipe)?);
        match first_difference(&old, &new, "") {
            None => Ok(recipe),
            Some((key, old, new)) => Err(Error::input(format!(
                "this run was begun with another recipe: `{key}` was {old}, and is {new} now"
            ))
            .at(path.display())
            .hint("give another folder with --out, or begin again with --force")),
        }
    }

    /// Records the plan of the run, as a recipe.
    pub(super) fn record(&self, plan: &Recipe) -> Result<()> {
        write_atomically(&self.file(RECIPE), plan.to_file()?.as_bytes())
    }

    /// The folder, and the same as a place to train in.
    pub(super) fn into_place(self) -> (PathBuf, Place) {
        let Self { path, lock, resume, .. } = self;
        (path.clone(), Place { folder: path, lock: Some(lock), resume })
    }

    /// Notes what resuming a finished run does.
    pub(super) fn note_finished(&self, context: &Context) {
        if self.was_finished {
            context.note(
                "this run is finished: it is evaluated and exported again, and trained for longer \
                 only if train.steps was raised",
            );
        }
    }

    /// A file of the run.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn refuse(out: &Path, step: Option<u64>, steps: u64) -> Result<()> {
    let there = if finished(out) {
        "a finished run".to_owned()
    } else if let Some(step) = step {
        format!("an unfinished run, at step {step} of {steps}")
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
    let is_run = ["lock", RECIPE].iter().all(|made| names.iter().any(|name| name == made));
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

/// The recipe that a run recorded; none when it recorded none.
fn read_recorded(path: &Path) -> Result<Option<Recipe>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| Error::io("reading", path, &error))?,
    };
    toml::from_str(&text).map(Some).map_err(|error: toml::de::Error| {
        Error::input(format!("the recipe of this run cannot be read: {}", error.message()))
            .at(path.display())
            .hint("begin again with --force, or give another folder with --out")
    })
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
