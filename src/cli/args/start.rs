//! Arguments of the verbs that help to begin: `init`, `recipes`, `schema`, `man`, `tokenize`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The recipe to write; `-` prints it
    #[arg(value_name = "RECIPE", default_value = "recipe.toml", value_hint = ValueHint::FilePath)]
    pub(crate) recipe: PathBuf,
    /// The model to distil: a folder, a file.gguf, or owner/name[@revision]
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub(crate) teacher: Option<String>,
    /// Files, folders or globs of text; one file is enough
    #[arg(long, num_args = 1.., value_name = "FILES", value_hint = ValueHint::AnyPath)]
    pub(crate) text: Vec<String>,
    /// The field or column of JSON and Parquet files that holds the text
    #[arg(long, default_value = "text")]
    pub(crate) field: String,
    /// Replace a file of that name
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecipesArgs {
    /// Print this recipe instead of the list
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// The kind of recipe
    #[arg(value_enum, value_name = "KIND", default_value_t = RecipeKind::Distill)]
    pub(crate) kind: RecipeKind,
}

/// The verbs that read a recipe, and the tasks that a study names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecipeKind {
    /// A student from a teacher
    Distill,
    /// A model from nothing
    Pretrain,
    /// Repetitions needed against the size ratio
    Law,
    /// Accuracy and loss against size, length and data
    Scaling,
    /// When halting policies stop
    #[value(alias = "exits")]
    Halting,
    /// A synthetic task with its settings
    Task,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Print the page of one verb
    #[arg(value_name = "VERB")]
    pub(crate) verb: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// A model with a tokenizer
    #[arg(long, value_hint = ValueHint::AnyPath)]
    pub(crate) model: String,
    /// A text whose tokens are printed; `-` reads it from stdin
    #[arg(long, required_unless_present = "text")]
    pub(crate) prompt: Option<String>,
    /// Files, folders or globs of text whose tokens are counted
    #[arg(long, num_args = 1.., value_name = "FILES", conflicts_with = "prompt")]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) text: Vec<String>,
    /// The field or column of JSON and Parquet files that holds the text
    #[arg(long, default_value = "text", requires = "text")]
    pub(crate) field: String,
    /// Put the prompt into the model's chat template
    #[arg(long, requires = "prompt")]
    pub(crate) chat: bool,
}
