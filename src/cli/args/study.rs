//! Arguments of tasks, studies, fits and reports.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::args::recipe::FolderArgs;
use crate::data::tasks::View;
use crate::error::Error;

#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// word, pointer, revcirc, addition, multiplication, table or path-star; without a name, all are
    /// listed with their settings
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Change a setting of the task, as in --set length=8
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Examples to print
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) count: usize,
    /// Seed of the examples
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// The split; no input is in two of them
    #[arg(long, value_enum, default_value_t = SplitName::Train)]
    pub(crate) split: SplitName,
    /// Steps of each chain [default: as many as the task has]
    #[arg(long, value_name = "STEPS")]
    pub(crate) length: Option<usize>,
    /// Show the inputs and targets of a model: direct, chain, chain-at=STEPS, filler=TOKENS, markov,
    /// loop or final
    #[arg(long, value_name = "VIEW", value_parser = view)]
    pub(crate) view: Option<View>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SplitName {
    Train,
    Validation,
    Test,
}

fn view(text: &str) -> Result<View, Error> {
    text.parse()
}

/// Arguments of a study.
#[derive(Debug, Args)]
pub(crate) struct StudyArgs {
    /// The recipe: a TOML file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) recipe: PathBuf,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// Points carried out side by side, each by a process [default: one a core, 1 on text]
    #[arg(long, value_name = "N")]
    pub(crate) processes: Option<usize>,
}

/// A point of a study, carried out by a process of its own.
#[derive(Debug, Args)]
pub(crate) struct PointArgs {
    /// The folder of the study
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// The hash of the point
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct FitArgs {
    /// The law
    #[arg(value_enum)]
    pub(crate) law: LawName,
    /// Points as CSV with a header; `-` reads stdin
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LawName {
    /// Repetitions needed: ratio (or `depth_ratio`, `width_ratio`), low, high, cluster
    Law,
    /// Loss: `n_once`, `n_rec`, repetitions, tokens, loss
    Joint,
    /// Examples needed: length, low, high, cluster
    Chain,
    /// How far a learned step goes: length, correct, trials
    Horizon,
}
