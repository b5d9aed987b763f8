//! Arguments of the verbs that carry out a recipe: the recipe, its folder, and changes to it.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::run::Existing;

/// A recipe, and what to change about it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
pub(crate) struct RecipeArgs {
    /// The recipe: a TOML file
    #[arg(value_name = "RECIPE", value_hint = ValueHint::FilePath)]
    pub(crate) recipe: Option<PathBuf>,
    /// The model to distil: a folder, a file.gguf, or owner/name[@revision]
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub(crate) teacher: Option<String>,
    /// Compute the teacher at every step, though the recipe says to keep what it says
    #[arg(long)]
    pub(crate) live: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What a run of a recipe can be told.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// All randomness follows from it; wins over the recipe
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// Where a recipe is carried out, and what to change about it.
#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// The folder of what it makes [default: runs/<name of the recipe>]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Change a key of the recipe, as in --set train.steps=400
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Go on with what is in the folder, if there is anything
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,
    /// Delete what an earlier one made in the folder
    #[arg(long)]
    pub(crate) force: bool,
    /// Shrink the recipe until it takes seconds, a study a minute: does everything work?
    #[arg(long)]
    pub(crate) smoke: bool,
}

impl FolderArgs {
    /// The folder, for a recipe of this name.
    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name))
    }

    /// What to do about what is in it.
    pub(crate) fn existing(&self) -> Existing {
        match (self.resume, self.force) {
            (true, _) => Existing::Resume,
            (false, true) => Existing::Replace,
            (false, false) => Existing::Refuse,
        }
    }
}

impl RecipeArgs {
    /// Whether any of it stands on the command line.
    pub(crate) fn is_given(&self) -> bool {
        let folder = &self.run.folder;
        self.recipe.is_some()
            || self.teacher.is_some()
            || self.live
            || self.run.seed.is_some()
            || folder.out.is_some()
            || !folder.set.is_empty()
            || folder.resume
            || folder.force
            || folder.smoke
    }
}

#[derive(Debug, Args)]
pub(crate) struct PretrainArgs {
    /// The recipe: a TOML file with [model]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) recipe: PathBuf,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}
