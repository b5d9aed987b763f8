//! The provenance of a study: recipe, machine, command and progress.

use serde::Serialize;

use super::points::{Failure, StudyKind, Sweep};
use crate::error::{Error, Result};
use crate::run::machine;

/// What is said of every study before its findings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct About {
    /// Which.
    pub kind: StudyKind,
    /// Of the recipe.
    pub name: String,
    /// The command that made it.
    pub command: String,
    /// Where.
    pub machine: String,
    /// As TOML.
    pub recipe: String,
    /// Points that are done.
    pub points_done: usize,
    /// Points of the study.
    pub points_total: usize,
    /// Points that failed.
    pub failures: Vec<Failure>,
}

impl About {
    /// Of a `recipe` called `name`, so many of whose points are done.
    ///
    /// # Errors
    /// The recipe cannot be written.
    pub(crate) fn new(
        name: &str,
        recipe: &impl Serialize,
        sweep: &Sweep,
        points_done: usize,
    ) -> Result<Self> {
        let recipe = toml::to_string(recipe)
            .map_err(|error| Error::internal(format!("writing the recipe: {error}")))?;
        Ok(Self {
            kind: sweep.kind(),
            name: name.to_owned(),
            command: sweep.command().to_owned(),
            machine: machine(),
            recipe,
            points_done,
            points_total: sweep.points().len(),
            failures: sweep.failures(),
        })
    }
}
