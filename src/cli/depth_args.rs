//! How deeply can tokens be asked to be read?

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::decode::CacheSharing;
use crate::error::Error;
use crate::halting::{Budget, PolicyName};
use crate::kernels::quantized::WeightType;

/// How deeply each token is read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Depth")]
pub(super) struct DepthArgs {
    /// Repetitions a token may take: 2.5 on average, max=3, or 90%=3 for that share of the tokens
    #[arg(long, value_name = "BUDGET", value_parser = budget)]
    pub(super) budget: Option<Budget>,
    /// When a token stops [default: the policy that `calibrate` found best, under a budget]
    #[arg(long, value_name = "NAME", value_parser = policy)]
    pub(super) policy: Option<PolicyName>,
    /// Its threshold [default: as calibrated]
    #[arg(long, value_name = "NUMBER", requires = "policy", conflicts_with = "budget")]
    pub(super) threshold: Option<f64>,
    /// What was calibrated for the student [default: halting.json beside it]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) halting: Option<PathBuf>,
    /// What a token reads of one that stopped before: catch-up, last, own or window=REPETITIONS
    #[arg(long, value_name = "HOW", default_value = "catch-up", value_parser = sharing)]
    pub(super) kv: CacheSharing,
    /// Type the weights wait in: f32, bf16 or int8
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = stored_as)]
    pub(super) weights: WeightType,
}

fn budget(text: &str) -> Result<Budget, Error> {
    text.parse()
}

fn policy(text: &str) -> Result<PolicyName, Error> {
    text.parse()
}

pub(super) fn sharing(text: &str) -> Result<CacheSharing, Error> {
    text.parse()
}

fn stored_as(text: &str) -> Result<WeightType, Error> {
    text.parse()
}
