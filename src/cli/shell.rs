//! What do shells, readers of manuals and editors need?

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Arguments;
use super::output;
use crate::error::{Error, Result};
use crate::recipe;

/// The JSON schema of recipes.
pub(super) fn schema() -> Result<()> {
    output::json(&recipe::schema())
}

/// A script for a shell.
pub(super) fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "factorize", &mut script);
    output::write(&String::from_utf8_lossy(&script))
}

/// A page for `man`.
pub(super) fn man() -> Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .render(&mut page)
        .map_err(|error| Error::internal(format!("writing the man page: {error}")))?;
    output::write(&String::from_utf8_lossy(&page))
}
