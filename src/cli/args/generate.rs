//! Arguments of `generate`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::cli::args::depth::DepthArgs;

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// A deep model or a student
    #[arg(long, value_hint = ValueHint::AnyPath)]
    pub(crate) model: String,
    /// The text to continue; `-` reads it from stdin, without its last line break
    #[arg(long, required_unless_present = "prompts")]
    pub(crate) prompt: Option<String>,
    /// A file of texts to continue together, one a line; blank lines are skipped
    #[arg(long, value_name = "FILE", conflicts_with = "prompt", value_hint = ValueHint::FilePath)]
    pub(crate) prompts: Option<PathBuf>,
    /// Most tokens to write
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub(crate) max_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub(crate) temperature: f64,
    /// Draw from this many of the likeliest tokens
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,
    /// Draw from tokens at least this share as likely as the likeliest
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f64>,
    /// Make tokens that came before less likely; 1 does nothing
    #[arg(long, default_value_t = 1.0, value_name = "BY")]
    pub(crate) repetition_penalty: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// End before this text; may be given again
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Repetitions of the core, the most under a policy [default: as many as trained]
    #[arg(long, value_name = "N")]
    pub(crate) repetitions: Option<usize>,
    /// Draft by so few repetitions, verify at full depth: the same text, perhaps sooner
    #[arg(long, value_name = "N")]
    pub(crate) speculate: Option<usize>,
    /// Tokens of a draft
    #[arg(long, default_value_t = 4, value_name = "N", requires = "speculate")]
    pub(crate) draft_tokens: usize,
    /// Put the prompt into the model's chat template
    #[arg(long)]
    pub(crate) chat: bool,
    #[command(flatten)]
    pub(crate) depth: DepthArgs,
}
