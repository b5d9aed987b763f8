//! `recipes`: the recipes that ship with this program, listed or printed.

use serde_json::json;

use crate::cli::args::start::RecipesArgs;
use crate::cli::output;
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::recipe::shipped::{SHIPPED, Shipped};

pub(crate) fn recipes(args: &RecipesArgs, session: &Session) -> Result<()> {
    match &args.name {
        Some(name) => output::write(find(name)?.text),
        None => list(session),
    }
}

/// The recipe of that name, with or without `.toml` and folder.
fn find(name: &str) -> Result<&'static Shipped> {
    let stem =
        |path: &str| path.trim_end_matches(".toml").rsplit('/').next().unwrap_or("").to_owned();
    SHIPPED.iter().find(|recipe| stem(recipe.path) == stem(name)).ok_or_else(|| {
        let nearest = SHIPPED.iter().map(|recipe| stem(recipe.path)).max_by(|a, b| {
            let similarity = |other: &str| strsim::jaro_winkler(&stem(name), other);
            similarity(a).total_cmp(&similarity(b))
        });
        Error::usage(format!("no recipe `{name}` ships with this program")).hint(format!(
            "did you mean `{}`? `factorize recipes` lists them",
            nearest.unwrap_or_default()
        ))
    })
}

/// Verb, purpose and cost of each, as its head says them.
fn list(session: &Session) -> Result<()> {
    if session.json {
        let all: Vec<_> = SHIPPED
            .iter()
            .map(|recipe| {
                json!({
                    "path": recipe.path,
                    "verb": recipe.verb(),
                    "purpose": recipe.purpose(),
                    "cost": recipe.cost(),
                })
            })
            .collect();
        return output::json(&all);
    }
    for (index, recipe) in SHIPPED.iter().enumerate() {
        let gap = if index > 0 { "\n" } else { "" };
        output::line(&format!("{gap}{}  (factorize {})", recipe.path, recipe.verb()))?;
        output::paragraph(recipe.purpose())?;
        output::paragraph(&format!("Cost: {}", recipe.cost()))?;
    }
    session.context.note("`factorize recipes NAME` prints one; `factorize init` writes your own");
    Ok(())
}
