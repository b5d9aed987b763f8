//! What can be asked of tasks, laws and reports?

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::recipe_args::FolderArgs;
use crate::data::tasks::View;
use crate::error::Error;

#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    /// word, pointer, revcirc, addition, multiplication, table or path-star
    pub(super) name: String,
    /// Change a setting of the task, as in --set length=8
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Examples to print
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(super) count: usize,
    /// All randomness follows from it
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Whose examples; no input is in two splits
    #[arg(long, value_enum, default_value_t = SplitName::Train)]
    pub(super) split: SplitName,
    /// Steps of each chain [default: as many as the task has]
    #[arg(long, value_name = "STEPS")]
    pub(super) length: Option<usize>,
    /// Show what a model reads and is asked for: direct, chain, chain-at=STEPS, filler=TOKENS, markov,
    /// loop or final
    #[arg(long, value_name = "VIEW", value_parser = view)]
    pub(super) view: Option<View>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SplitName {
    Train,
    Validation,
    Test,
}

fn view(text: &str) -> Result<View, Error> {
    text.parse()
}

/// What a study can be told.
#[derive(Debug, Args)]
pub(super) struct StudyArgs {
    /// The recipe: a TOML file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) recipe: PathBuf,
    #[command(flatten)]
    pub(super) folder: FolderArgs,
    /// Points carried out side by side, each by a process [default: one a core, 1 on text]
    #[arg(long, value_name = "N")]
    pub(super) processes: Option<usize>,
}

/// A point of a study, carried out by a process of its own.
#[derive(Debug, Args)]
pub(super) struct PointArgs {
    /// The folder of the study
    #[arg(long)]
    pub(super) out: PathBuf,
    /// The hash of the point
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(super) struct FitArgs {
    /// The law
    #[arg(value_enum)]
    pub(super) law: LawName,
    /// Points as CSV with a header; `-` reads stdin
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LawName {
    /// Repetitions needed: ratio (or `depth_ratio`, `width_ratio`), low, high, cluster
    Law,
    /// Loss: `n_once`, `n_rec`, repetitions, tokens, loss
    Joint,
    /// Examples needed: length, low, high, cluster
    Chain,
    /// How far a learned step goes: length, correct, trials
    Horizon,
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The folder of a study or of a run
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) folder: PathBuf,
}
