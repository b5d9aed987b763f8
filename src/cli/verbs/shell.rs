//! `schema`, `completions` and `man`.

use clap_complete::Shell;

use crate::cli::args::start::{ManArgs, RecipeKind, SchemaArgs};
use crate::cli::{output, parse};
use crate::data::tasks::TaskConfig;
use crate::error::{Error, Result};
use crate::recipe::{Recipe, schema_of};
use crate::study::{ExitsRecipe, LawRecipe, ScalingRecipe};

/// The JSON schema of a kind of recipe.
pub(crate) fn schema(args: &SchemaArgs) -> Result<()> {
    output::json(&match args.kind {
        RecipeKind::Distill | RecipeKind::Pretrain => schema_of::<Recipe>(),
        RecipeKind::Law => schema_of::<LawRecipe>(),
        RecipeKind::Scaling => schema_of::<ScalingRecipe>(),
        RecipeKind::Halting => schema_of::<ExitsRecipe>(),
        RecipeKind::Task => schema_of::<TaskConfig>(),
    })
}

/// A script for a shell.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut parse::command(), "factorize", &mut script);
    output::write(&String::from_utf8_lossy(&script))
}

/// The page of the program with the options of every verb, or the page of one verb.
pub(crate) fn man(args: &ManArgs) -> Result<()> {
    let mut command = parse::command();
    command.build();
    let page = match &args.verb {
        None => whole_page(&command),
        Some(verb) => {
            let found = command.find_subcommand(verb).ok_or_else(|| {
                Error::usage(format!("there is no verb `{verb}`"))
                    .hint("`factorize --help` lists the verbs")
            })?;
            let mut page = Vec::new();
            clap_mangen::Man::new(found.clone()).render(&mut page).map(|()| page)
        }
    };
    let page = page.map_err(|error| {
        Error::internal(format!("writing the man page: {error}")).caused_by(error)
    })?;
    output::write(&String::from_utf8_lossy(&page))
}

fn whole_page(command: &clap::Command) -> std::io::Result<Vec<u8>> {
    use std::io::Write;
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let man = clap_mangen::Man::new(verb.clone());
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page, ".SH FACTORIZE {}\n{about}", verb.get_name().to_uppercase())?;
        man.render_options_section(&mut page)?;
        for inner in verb.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
            let name = format!("{} {}", verb.get_name(), inner.get_name());
            writeln!(page, ".SH FACTORIZE {}\n{about}", name.to_uppercase())?;
            clap_mangen::Man::new(inner.clone()).render_options_section(&mut page)?;
        }
    }
    Ok(page)
}
