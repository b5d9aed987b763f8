//! What can be asked for, and how?

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use super::bench_args::BenchCommand;
use super::depth_args::{DepthArgs, sharing};
use super::recipe_args::{RecipeArgs, RunArgs};
use super::size::size;
use super::study_args::{FitArgs, PointArgs, ReportArgs, StudyArgs, TaskArgs};
use crate::decode::CacheSharing;
use crate::error::Error;
use crate::halting::Risk;
use crate::hub::StoredType;

const EXAMPLES: &str = "\
Examples:
  factorize --teacher recipes/sotu-12l recipes/tiny.toml      the whole job, in runs/tiny
  factorize --teacher owner/name@main recipe.toml --smoke    the same, in seconds
  factorize recipe.toml --set train.steps=400 --resume       go on, for longer
  factorize inspect runs/tiny/student
  factorize generate --model runs/tiny/student --prompt 'We the people'

A teacher is a folder with config.json and safetensors, a file.gguf, or owner/name[@revision] on
the Hugging Face Hub. `factorize <verb> --help` tells more of each verb.";

/// Factor a deep transformer into a small block applied again and again: load the teacher, distil
/// it as the recipe says, evaluate, export, and print one table, teacher beside student.
#[derive(Debug, Parser)]
#[command(name = "factorize", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(arg_required_else_help = true, subcommand_help_heading = "Verbs")]
#[command(subcommand_value_name = "VERB", disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) bare: RecipeArgs,
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Flags of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common")]
pub(super) struct Common {
    /// Where the arithmetic happens: cpu, cuda, cuda:1 or metal
    #[arg(long, global = true, default_value = "cpu")]
    pub(super) device: String,
    /// Threads of the arithmetic; all cores by default
    #[arg(long, global = true, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Where tokenised text and what teachers say is kept [default: ~/.cache/factorexe]
    #[arg(long, global = true, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(super) cache: Option<PathBuf>,
    /// Most of the disk that kept teachers take together, such as 8GB, 500MB or 0
    #[arg(long, global = true, value_name = "SIZE", default_value = "8GB", value_parser = size)]
    pub(super) cache_limit: u64,
    /// Tell more on the way
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Tell nothing but warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
}

/// One step at a time.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Tell what a model is: family, shape, parameters, and how a student is factored
    #[command(after_help = "Example:\n  factorize inspect HuggingFaceTB/SmolLM2-135M --json")]
    Inspect(InspectArgs),
    /// Train a model from nothing, as the [model] of a recipe says
    #[command(after_help = "Example:\n  factorize pretrain recipes/tiny-teacher.toml")]
    Pretrain(PretrainArgs),
    /// Distil a teacher as a recipe says: the same as no verb at all
    #[command(
        after_help = "Example:\n  factorize distill --teacher recipes/sotu-12l recipes/tiny.toml"
    )]
    Distill(RecipeArgs),
    /// Compare a student with its teacher on text, at every number of repetitions
    #[command(after_help = "Example:\n  factorize evaluate --teacher recipes/sotu-12l \
        --student runs/tiny/student --text recipes/text/sotu-test.parquet --repetitions 1,2,4")]
    Evaluate(EvaluateArgs),
    /// Fit halting gates on a frozen student, and choose thresholds that keep a risk
    #[command(after_help = "Example:\n  factorize calibrate --teacher recipes/sotu-12l \
        --student runs/tiny/student --text recipes/text/sotu-validation.parquet\n\nGates are \
        fitted on the first half of the text, thresholds chosen on the second. What was found is\n\
        kept in halting.json beside the student; test it on other text: factorize evaluate --policies.")]
    Calibrate(CalibrateArgs),
    /// Continue a prompt; the continuation alone goes to stdout
    #[command(after_help = "Example:\n  factorize generate --model runs/tiny/student \
        --prompt 'We the people' --max-tokens 40 --temperature 0")]
    Generate(GenerateArgs),
    /// Write the logits and every hidden state of some tokens; needs no tokenizer
    #[command(after_help = "Example:\n  factorize states --model recipes/sotu-12l --ids 1,2,3 \
        --out states.safetensors\n\nThe file holds `logits` (1, T, V) and `hidden.0` (the \
        embedding) to `hidden.L` (the residual stream\nafter layer L, before the last norm), \
        each (1, T, D).")]
    States(StatesArgs),
    /// Write a model anew in another type of numbers, or a student as an ordinary model
    #[command(after_help = "Example:\n  factorize export runs/tiny/student --unrolled \
        --out unrolled")]
    Export(ExportArgs),
    /// Time the arithmetic on this machine: a training step, a forward pass, the matrix product
    #[command(after_help = "Example:\n  factorize bench step --width 256 --repetitions 8 --json")]
    #[command(subcommand_value_name = "WHAT", subcommand_help_heading = "What")]
    #[command(disable_help_subcommand = true)]
    Bench {
        #[command(subcommand)]
        what: BenchCommand,
    },
    /// Print examples of a task with an exact chain of steps
    #[command(after_help = "Example:\n  factorize task pointer --set nodes=8 --set hops=3 --json")]
    Task(TaskArgs),
    /// Measure how many repetitions are needed against the size ratio, over a grid
    #[command(after_help = "Example:\n  factorize law recipes/law-tasks.toml --smoke")]
    Law(StudyArgs),
    /// Measure how accuracy and loss scale with size, chain length and data
    #[command(after_help = "Example:\n  factorize scaling recipes/scaling-tasks.toml --smoke")]
    Scaling(StudyArgs),
    /// Measure when halting policies stop, against the known length of a chain
    #[command(after_help = "Example:\n  factorize exits recipes/exits-tasks.toml --smoke")]
    Exits(StudyArgs),
    /// Fit a law to points of your own
    #[command(
        after_help = "Example:\n  factorize fit law points.csv --json\n\nOne law at a time: of \
        the points.csv of a study keep the rows of one target and one way of training."
    )]
    Fit(FitArgs),
    /// Make one page, and figures, of what a study or a run wrote down
    #[command(after_help = "Example:\n  factorize report runs/tiny")]
    Report(ReportArgs),
    /// Carry out one point of a study
    #[command(hide = true)]
    Point(PointArgs),
    /// Print the JSON schema of recipes
    Schema,
    /// Print what a shell needs to complete commands
    #[command(after_help = "Example:\n  factorize completions bash > \
        ~/.local/share/bash-completion/completions/factorize")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page
    #[command(after_help = "Example:\n  factorize man | man -l -")]
    Man,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A folder, a file.gguf, owner/name[@revision], or a run folder
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(super) model: String,
}

#[derive(Debug, Args)]
pub(super) struct PretrainArgs {
    /// The recipe: a TOML file with [model]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) recipe: PathBuf,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// A teacher, and text that neither it nor its student was fitted to.
#[derive(Debug, Args)]
pub(super) struct TextArgs {
    /// The deep model
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub(super) teacher: String,
    /// Files, folders or globs of text
    #[arg(long, required = true, num_args = 1.., value_name = "FILES")]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(super) text: Vec<String>,
    /// The field or column of JSON and Parquet files that holds the text
    #[arg(long, default_value = "text")]
    pub(super) field: String,
    /// Tokens read together
    #[arg(long, default_value_t = 256, value_name = "TOKENS")]
    pub(super) window: usize,
}

#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    #[command(flatten)]
    pub(super) on: TextArgs,
    /// The student made from it
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub(super) student: Option<String>,
    /// Tokens read in all, from the beginning of the text
    #[arg(long, default_value_t = 1024, value_name = "TOKENS")]
    pub(super) max_tokens: usize,
    /// Numbers of repetitions to evaluate at [default: 1 to twice as many as trained]
    #[arg(long, value_delimiter = ',', value_name = "N,..")]
    pub(super) repetitions: Vec<usize>,
    /// Evaluate halting policies too, each token stopping by itself: names, or all
    #[arg(long, value_delimiter = ',', value_name = "NAME,..", requires = "student")]
    pub(super) policies: Vec<String>,
    /// What was calibrated for the student [default: halting.json beside it]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) halting: Option<PathBuf>,
    /// What a token reads of one that stopped before: catch-up, last, own or window=REPETITIONS
    #[arg(long, value_name = "HOW", default_value = "catch-up", value_parser = sharing)]
    pub(super) kv: CacheSharing,
}

#[derive(Debug, Args)]
pub(super) struct CalibrateArgs {
    #[command(flatten)]
    pub(super) on: TextArgs,
    /// The student made from it
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub(super) student: String,
    /// Tokens read in all, from everywhere in the text
    #[arg(long, default_value_t = 8192, value_name = "TOKENS")]
    pub(super) max_tokens: usize,
    /// What stopping early may cost: kl=NATS more KL to the teacher, or changed=SHARE of the answers
    #[arg(long, default_value = "kl=0.01", value_name = "RISK", value_parser = risk)]
    pub(super) risk: Risk,
    /// Repetitions at most [default: as many as trained]
    #[arg(long, value_name = "N")]
    pub(super) repetitions: Option<usize>,
    /// Of the order in which gates see tokens
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Fit a gate in place of the one that learned together with the student
    #[arg(long)]
    pub(super) refit: bool,
    /// The file to write [default: halting.json beside the student]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) out: Option<PathBuf>,
}

fn risk(text: &str) -> Result<Risk, Error> {
    text.parse()
}

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// A deep model or a student
    #[arg(long, value_hint = ValueHint::AnyPath)]
    pub(super) model: String,
    /// The text to continue; `-` reads it from stdin
    #[arg(long, required_unless_present = "prompts")]
    pub(super) prompt: Option<String>,
    /// A file of texts to continue together, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "prompt", value_hint = ValueHint::FilePath)]
    pub(super) prompts: Option<PathBuf>,
    /// Most tokens to write
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub(super) max_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub(super) temperature: f64,
    /// Draw from this many of the likeliest tokens
    #[arg(long, value_name = "K")]
    pub(super) top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P")]
    pub(super) top_p: Option<f64>,
    /// Draw from tokens at least this share as likely as the likeliest
    #[arg(long, value_name = "P")]
    pub(super) min_p: Option<f64>,
    /// Make tokens that came before less likely; 1 does nothing
    #[arg(long, default_value_t = 1.0, value_name = "BY")]
    pub(super) repetition_penalty: f64,
    /// Of the draws
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// End before this text; may be given again
    #[arg(long, value_name = "TEXT")]
    pub(super) stop: Vec<String>,
    /// Repetitions of the core, the most under a policy [default: as many as trained]
    #[arg(long, value_name = "N")]
    pub(super) repetitions: Option<usize>,
    /// Draft by so few repetitions, verify at full depth: the same text, perhaps sooner
    #[arg(long, value_name = "N")]
    pub(super) speculate: Option<usize>,
    /// Tokens of a draft
    #[arg(long, default_value_t = 4, value_name = "N", requires = "speculate")]
    pub(super) draft_tokens: usize,
    /// Put the prompt into the model's chat template
    #[arg(long)]
    pub(super) chat: bool,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}

#[derive(Debug, Args)]
pub(super) struct StatesArgs {
    /// A deep model or a student
    #[arg(long, value_hint = ValueHint::AnyPath)]
    pub(super) model: String,
    /// Tokens by number
    #[arg(long, required = true, value_delimiter = ',', value_name = "ID,..")]
    pub(super) ids: Vec<u32>,
    /// The file to write
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) out: PathBuf,
    /// Repetitions of the core [default: as many as trained]
    #[arg(long, value_name = "N")]
    pub(super) repetitions: Option<usize>,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The folder of a student or of an ordinary model, or a run folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) student: String,
    /// The folder to write
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(super) out: PathBuf,
    /// As an ordinary model of the teacher's family: the core written out N times
    #[arg(long)]
    pub(super) unrolled: bool,
    /// How often the core is written out [default: as often as trained]
    #[arg(long, value_name = "N", requires = "unrolled")]
    pub(super) repetitions: Option<usize>,
    /// Type of the numbers: f32, bf16 or f16
    #[arg(long, default_value = "f32", value_parser = stored_type)]
    pub(super) dtype: StoredType,
    /// Replace what is in the folder
    #[arg(long)]
    pub(super) force: bool,
}

fn stored_type(text: &str) -> Result<StoredType, Error> {
    text.parse()
}
