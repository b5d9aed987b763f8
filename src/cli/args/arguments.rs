//! The whole command line: common flags and one variant a verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::cli::args::bench::BenchCommand;
use crate::cli::args::generate::GenerateArgs;
use crate::cli::args::model::{ExportArgs, InspectArgs, StatesArgs};
use crate::cli::args::recipe::{PretrainArgs, RecipeArgs};
use crate::cli::args::report::ReportArgs;
use crate::cli::args::size::size;
use crate::cli::args::start::{InitArgs, ManArgs, RecipesArgs, SchemaArgs, TokenizeArgs};
use crate::cli::args::study::{FitArgs, PointArgs, StudyArgs, TaskArgs};
use crate::cli::args::text::{CalibrateArgs, EvaluateArgs};

const EXAMPLES: &str = "\
Examples:
  factorize --teacher recipes/sotu-12l recipes/tiny.toml      the whole job, in runs/tiny
  factorize --teacher owner/name@main recipe.toml --smoke    the same, in seconds
  factorize recipe.toml --set train.steps=400 --resume       go on, for longer
  factorize inspect runs/tiny/student
  factorize generate --model runs/tiny/student --prompt 'We the people'

A teacher is a folder with config.json and safetensors, a file.gguf, or owner/name[@revision] on
the Hugging Face Hub. `factorize help <verb>` shows the flags of a verb.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.";

/// Factor a deep transformer into a small block applied again and again: load the teacher, distil
/// it as the recipe says, evaluate, export, and print one table, teacher beside student.
#[derive(Debug, Parser)]
#[command(name = "factorize", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(arg_required_else_help = true, subcommand_help_heading = "Verbs")]
#[command(subcommand_value_name = "VERB")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) bare: RecipeArgs,
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Flags of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common")]
pub(crate) struct Common {
    /// Device of the arithmetic: cpu, cuda, cuda:1 or metal
    #[arg(long, global = true, default_value = "cpu")]
    pub(crate) device: String,
    /// Threads of the arithmetic; all cores by default
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Print the result as JSON; an error too, as {"error": {...}}
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Folder of tokenised text and of teacher outputs [default: ~/.cache/factorexe]
    #[arg(long, global = true, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) cache: Option<PathBuf>,
    /// Most bytes that the teacher outputs take on disk, such as 8GB, 500MB or 0
    #[arg(long, global = true, value_name = "SIZE", default_value = "8GB", value_parser = size)]
    pub(crate) cache_limit: u64,
    /// Print how long each part took
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Print nothing but warnings and errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented recipe for a teacher and a text of your own
    #[command(after_help = "Example:\n  factorize init my.toml --teacher recipes/sotu-12l \
        --text book.txt")]
    Init(InitArgs),
    /// List the recipes that ship with this program, or print one
    #[command(after_help = "Example:\n  factorize recipes tiny > my.toml")]
    Recipes(RecipesArgs),
    /// Describe a model: family, shape, parameters, and how a student is factored
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
    /// Fit halting gates on a frozen student, and choose thresholds within a risk
    #[command(after_help = "Example:\n  factorize calibrate --teacher recipes/sotu-12l \
        --student runs/tiny/student --text recipes/text/sotu-validation.parquet\n\nGates are \
        fitted on the first half of the text, thresholds chosen on the second. The calibration is\n\
        written to halting.json beside the student; test it on other text: factorize evaluate --policies.")]
    Calibrate(CalibrateArgs),
    /// Continue a prompt; the continuation alone goes to stdout
    #[command(after_help = "Example:\n  factorize generate --model runs/tiny/student \
        --prompt 'We the people' --max-tokens 40 --temperature 0")]
    Generate(GenerateArgs),
    /// Print the tokens of a text, or count those of files
    #[command(after_help = "Example:\n  factorize tokenize --model recipes/sotu-12l \
        --prompt 'We the people'")]
    Tokenize(TokenizeArgs),
    /// Write the logits and every hidden state of some tokens; needs no tokenizer
    #[command(after_help = "Example:\n  factorize states --model recipes/sotu-12l --ids 1,2,3 \
        --out states.safetensors\n\nThe file holds `logits` (1, T, V) and `hidden.0` (the \
        embedding) to `hidden.L` (the residual stream\nafter layer L, before the last norm), \
        each (1, T, D).")]
    States(StatesArgs),
    /// Write a model in another number type, or a student as an ordinary model
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
    #[command(visible_alias = "exits")]
    #[command(after_help = "Example:\n  factorize halting recipes/exits-tasks.toml --smoke")]
    Halting(StudyArgs),
    /// Fit a law to points of your own
    #[command(
        after_help = "Example:\n  factorize fit law points.csv --json\n\nOne law at a time: of \
        the points.csv of a study keep the rows of one target and one way of training."
    )]
    Fit(FitArgs),
    /// Make one page with figures, or Markdown tables, of a study or a run
    #[command(
        after_help = "Examples:\n  factorize report runs/tiny\n  factorize report --markdown runs/tiny\n  \
        factorize report --markdown --table scores runs/tiny\n  \
        factorize report --markdown runs/tiny runs/tiny-any-depth"
    )]
    Report(ReportArgs),
    /// Carry out one point of a study
    #[command(hide = true)]
    Point(PointArgs),
    /// Print the JSON schema of a kind of recipe
    #[command(after_help = "Example:\n  factorize schema law")]
    Schema(SchemaArgs),
    /// Print a script for shell completions
    #[command(after_help = "Example:\n  factorize completions bash > \
        ~/.local/share/bash-completion/completions/factorize")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page: all verbs with their options, or one verb
    #[command(after_help = "Example:\n  factorize man | man -l -")]
    Man(ManArgs),
}
