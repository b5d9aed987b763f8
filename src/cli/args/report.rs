//! Arguments of `report`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The folder of a study or of a run; with --markdown, several runs are compared
    #[arg(required = true, num_args = 1.., value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) folders: Vec<PathBuf>,
    /// Print the tables as GitHub's Markdown, and write no page
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
    /// Print only the table of this name; may be given again
    #[arg(long, value_name = "NAME", requires = "markdown")]
    pub(crate) table: Vec<String>,
}
