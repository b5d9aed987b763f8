//! Arguments of the verbs that compare a student with its teacher on text.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::cli::args::depth::sharing;
use crate::decode::CacheSharing;
use crate::error::Error;
use crate::halting::Risk;

/// A teacher, and text that neither it nor its student was trained on.
#[derive(Debug, Args)]
pub(crate) struct TextArgs {
    /// The deep model
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub(crate) teacher: String,
    /// Files, folders or globs of text
    #[arg(long, required = true, num_args = 1.., value_name = "FILES")]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) text: Vec<String>,
    /// The field or column of JSON and Parquet files that holds the text
    #[arg(long, default_value = "text")]
    pub(crate) field: String,
    /// Tokens of a window: what a token can read is in its window
    #[arg(long, default_value_t = 256, value_name = "TOKENS")]
    pub(crate) window: usize,
    /// Allow windows longer than the model's context length
    #[arg(long)]
    pub(crate) beyond_context: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    #[command(flatten)]
    pub(crate) on: TextArgs,
    /// The student that was distilled from it
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub(crate) student: Option<String>,
    /// Tokens read in all, from the beginning of the text
    #[arg(long, default_value_t = 1024, value_name = "TOKENS")]
    pub(crate) max_tokens: usize,
    /// Numbers of repetitions to evaluate at [default: 1 to twice as many as trained]
    #[arg(long, value_delimiter = ',', value_name = "N,..", requires = "student")]
    pub(crate) repetitions: Vec<usize>,
    /// Evaluate halting policies too, each token stopping by itself: names, or all
    #[arg(long, value_delimiter = ',', value_name = "NAME,..", requires = "student")]
    pub(crate) policies: Vec<String>,
    /// The calibration of the student [default: halting.json beside it]
    #[arg(long, value_name = "FILE", requires = "policies", value_hint = ValueHint::FilePath)]
    pub(crate) halting: Option<PathBuf>,
    /// Keys and values that a token reads of one that stopped before: catch-up, last, own or
    /// window=REPETITIONS [default: catch-up]
    #[arg(long, value_name = "HOW", requires = "policies", value_parser = sharing)]
    pub(crate) kv: Option<CacheSharing>,
}

#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    pub(crate) on: TextArgs,
    /// The student that was distilled from it
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub(crate) student: String,
    /// Tokens read in all, from everywhere in the text
    #[arg(long, default_value_t = 8192, value_name = "TOKENS")]
    pub(crate) max_tokens: usize,
    /// What stopping early may cost: kl=NATS more KL to the teacher, or changed=SHARE of the answers
    #[arg(long, default_value = "kl=0.01", value_name = "RISK", value_parser = risk)]
    pub(crate) risk: Risk,
    /// Repetitions at most [default: as many as trained]
    #[arg(long, value_name = "N")]
    pub(crate) repetitions: Option<usize>,
    /// Seed of the order in which gates are fitted to tokens
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Fit a new gate in place of the one that was trained with the student
    #[arg(long)]
    pub(crate) refit: bool,
    /// The file to write [default: halting.json beside the student]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

fn risk(text: &str) -> Result<Risk, Error> {
    text.parse()
}
