//! Arguments from the command line; what clap refuses becomes an error with exit code 2.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches};

use crate::cli::args::arguments::Arguments;
use crate::cli::suggest;
use crate::error::{Error, Result};

/// What the command line asks for.
pub(super) enum Parsed {
    /// A verb, or the main job.
    Arguments(Box<Arguments>),
    /// A page of help, or the version.
    Help(clap::Error),
}

/// The whole command line as clap knows it.
pub(super) fn command() -> clap::Command {
    // `--temperature -1` is a value that is refused by its range, not a flag called `-1`.
    allow_negative_numbers(Arguments::command())
}

fn allow_negative_numbers(command: clap::Command) -> clap::Command {
    let takes_value = |action: &ArgAction| matches!(action, ArgAction::Set | ArgAction::Append);
    command
        .mut_args(|arg| {
            let negative = takes_value(arg.get_action()) && !arg.is_positional();
            if negative { arg.allow_negative_numbers(true) } else { arg }
        })
        .mut_subcommands(allow_negative_numbers)
}

/// Reads the command line.
pub(super) fn arguments(argv: &[OsString]) -> Result<Parsed> {
    let found = command()
        .try_get_matches_from(argv)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    match found {
        Ok(arguments) => Ok(Parsed::Arguments(Box::new(arguments))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(Parsed::Help(error)),
            _ => Err(unknown_verb(argv).unwrap_or_else(|| refused(&error))),
        },
    }
}

/// `factorize train x.toml`: the first word is no verb, so the second is no argument.
fn unknown_verb(argv: &[OsString]) -> Option<Error> {
    let word = argv.get(1)?.to_str()?;
    if !suggest::is_word(word) || suggest::is_verb(word) || Path::new(word).exists() {
        return None;
    }
    let verbs = suggest::verbs_like(word);
    Some(Error::usage(format!("there is no verb `{word}`")).hint(suggest::did_you_mean(&verbs)))
}

/// What clap says, as one of our errors: its first paragraph, and its tips and usage as the hint.
fn refused(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default();
    let hints: Vec<&str> = paragraphs
        .flat_map(str::lines)
        .map(str::trim)
        .map(|line| {
            ["tip: ", "hint: "].iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line)
        })
        .filter(|line| !line.is_empty())
        .collect();
    let message: Vec<&str> = message.lines().map(str::trim).collect();
    Error::usage(message.join(" ")).hint(hints.join("\n"))
}
