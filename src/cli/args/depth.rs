//! Arguments that set how many repetitions each token takes.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::decode::CacheSharing;
use crate::error::Error;
use crate::halting::{Budget, PolicyName};
use crate::kernels::WeightType;

/// How many repetitions each token takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Depth")]
pub(crate) struct DepthArgs {
    /// Repetitions a token may take: 2.5 on average, max=3, or 90%=3 for that share of the tokens
    #[arg(long, value_name = "BUDGET", value_parser = budget)]
    pub(crate) budget: Option<Budget>,
    /// When a token stops [default under a budget: the best policy of the calibration]
    #[arg(long, value_name = "NAME", value_parser = policy)]
    pub(crate) policy: Option<PolicyName>,
    /// Its threshold [default: as calibrated]
    #[arg(long, value_name = "NUMBER", requires = "policy", conflicts_with = "budget")]
    pub(crate) threshold: Option<f64>,
    /// The calibration of the student [default: halting.json beside it]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) halting: Option<PathBuf>,
    /// Keys and values that a token reads of one that stopped before: catch-up, last, own or
    /// window=REPETITIONS [default: catch-up]
    #[arg(long, value_name = "HOW", value_parser = sharing)]
    pub(crate) kv: Option<CacheSharing>,
    /// Type the weights are stored in: f32, bf16 or int8
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = stored_as)]
    pub(crate) weights: WeightType,
}

fn budget(text: &str) -> Result<Budget, Error> {
    text.parse()
}

fn policy(text: &str) -> Result<PolicyName, Error> {
    text.parse()
}

pub(crate) fn sharing(text: &str) -> Result<CacheSharing, Error> {
    text.parse()
}

fn stored_as(text: &str) -> Result<WeightType, Error> {
    text.parse()
}
