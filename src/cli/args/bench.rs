//! Arguments of `bench`: what is timed, and at which sizes.

use clap::{Args, Subcommand, ValueHint};

use crate::cli::args::depth::DepthArgs;

/// What is timed.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// A training step of a student on fixed random data
    #[command(after_help = "Example:\n  factorize bench step --width 576 --ffn 1536 --heads 9 \
        --repetitions 8\n\nA step is the forward pass, the backward pass and AdamW, under cross entropy \
        with random tokens, KL\nwith given logits and, after every repetition, the relative squared \
        error with a given state. Past\nthe eighth repetition the given states repeat, as those of \
        a teacher of few layers: they are data,\nand would hide what the graph takes.")]
    Step(StepArgs),
    /// The forward pass of a frozen model, with the logits of every position
    #[command(after_help = "Example:\n  factorize bench prefill --model recipes/sotu-12l --json")]
    Prefill(PrefillArgs),
    /// Writing, one token after the other
    #[command(after_help = "Example:\n  factorize bench decode --model runs/tiny --budget 2.5 \
        --json\n\nAfter 16 fixed tokens the likeliest one is written each time.")]
    Decode(DecodeArgs),
    /// The matrix product alone: the most that this machine can do
    #[command(after_help = "Example:\n  factorize bench peak --width 256 --ffn 768 --json")]
    Peak(PeakArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StepArgs {
    /// Width of the states
    #[arg(long, default_value_t = 256, value_name = "D")]
    pub(crate) width: usize,
    /// Inner width of the mlp
    #[arg(long, default_value_t = 768, value_name = "WIDTH")]
    pub(crate) ffn: usize,
    /// Layers of the core
    #[arg(long, default_value_t = 2, value_name = "K")]
    pub(crate) core: usize,
    /// How often the core is applied
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) repetitions: usize,
    /// Heads of queries, keys and values
    #[arg(long, default_value_t = 4, value_name = "H")]
    pub(crate) heads: usize,
    /// Rows of a batch
    #[arg(long, default_value_t = 16, value_name = "B")]
    pub(crate) batch: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 128, value_name = "T")]
    pub(crate) tokens: usize,
    /// Tokens there are
    #[arg(long, default_value_t = 512, value_name = "V")]
    pub(crate) vocab: usize,
    /// Steps timed, after two that are not
    #[arg(long, default_value_t = 6, value_name = "STEPS")]
    pub(crate) steps: usize,
    /// Recompute activations in the backward pass instead of storing them
    #[arg(long)]
    pub(crate) recompute: bool,
    /// Compute by candle's composed operations, the reference of the kernels
    #[arg(long)]
    pub(crate) reference: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PrefillArgs {
    /// A deep model or a student
    #[arg(long, value_hint = ValueHint::AnyPath)]
    pub(crate) model: String,
    /// Rows of a batch
    #[arg(long, default_value_t = 4, value_name = "B")]
    pub(crate) batch: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 256, value_name = "T")]
    pub(crate) tokens: usize,
    /// Passes timed, after two that are not
    #[arg(long, default_value_t = 6, value_name = "STEPS")]
    pub(crate) steps: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// A deep model or a student
    #[arg(long, value_hint = ValueHint::AnyPath)]
    pub(crate) model: String,
    /// Tokens of a text
    #[arg(long, default_value_t = 64, value_name = "T")]
    pub(crate) tokens: usize,
    /// Texts written together
    #[arg(long, default_value_t = 1, value_name = "B")]
    pub(crate) texts: usize,
    /// Repetitions of the core, the most under a policy [default: as many as trained]
    #[arg(long, value_name = "N")]
    pub(crate) repetitions: Option<usize>,
    #[command(flatten)]
    pub(crate) depth: DepthArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PeakArgs {
    /// Time the products of a student of this width too
    #[arg(long, value_name = "D")]
    pub(crate) width: Option<usize>,
    /// Inner width of its mlp
    #[arg(long, value_name = "WIDTH", requires = "width")]
    pub(crate) ffn: Option<usize>,
    /// Tokens there are
    #[arg(long, value_name = "V", requires = "width")]
    pub(crate) vocab: Option<usize>,
    /// Rows of a batch
    #[arg(long, default_value_t = 16, value_name = "B")]
    pub(crate) batch: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 128, value_name = "T")]
    pub(crate) tokens: usize,
}
