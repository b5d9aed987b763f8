//! The configuration of a task, as a recipe or a command line writes it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table as Settings, Value};

use super::addition::{Addition, AdditionConfig};
use super::example::Chains;
use super::multiplication::{Multiplication, MultiplicationConfig};
use super::path_star::{PathStar, PathStarConfig};
use super::pointer::{Pointer, PointerConfig};
use super::reversible::{Reversible, ReversibleConfig};
use super::rules::Rules;
use super::table::{Table, TableConfig};
use super::word::{Word, WordConfig};
use crate::error::{Error, Result};

/// A task by its name, with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TaskConfig {
    /// Products of group elements.
    Word(WordConfig),
    /// Pointers to follow.
    Pointer(PointerConfig),
    /// Reversible circuits.
    Revcirc(ReversibleConfig),
    /// Sums of many numbers.
    Addition(AdditionConfig),
    /// Products of two numbers.
    Multiplication(MultiplicationConfig),
    /// A control: another random table at every step.
    Table(TableConfig),
    /// Paths out of the centre of a star.
    PathStar(PathStarConfig),
}

impl TaskConfig {
    /// The task `name` with settings "key=value", whose values are TOML; a value that is not TOML is a string.
    ///
    /// # Errors
    /// No such task, no such setting, a value of another type, or a setting twice.
    pub fn named(name: &str, settings: &[String]) -> Result<Self> {
        let mut table = Settings::new();
        for setting in settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::input(format!("the setting `{setting}` is not of the form key=value"))
                    .hint("for example: length=8")
            })?;
            let (key, value) = (key.trim(), value.trim());
            if key == "name" || table.contains_key(key) {
                return Err(Error::input(format!("the setting `{key}` is given twice")));
            }
            table.insert(key.to_owned(), parsed(value));
        }
        table.insert("name".to_owned(), Value::String(name.to_owned()));
        Value::Table(table).try_into().map_err(|error: toml::de::Error| {
            Error::input(error.message().to_owned())
                .at(format!("the task `{name}` with [{}]", settings.join(", ")))
        })
    }

    pub(super) fn rules(&self) -> Result<Arc<dyn Rules>> {
        Ok(match self {
            Self::Word(config) => Arc::new(Word::new(config)?),
            Self::Pointer(config) => Arc::new(Pointer::new(config)?),
            Self::Revcirc(config) => Arc::new(Reversible::new(config)?),
            Self::Addition(config) => Arc::new(Addition::new(config)?),
            Self::Multiplication(config) => Arc::new(Multiplication::new(config)?),
            Self::Table(config) => Arc::new(Table::new(config)?),
            Self::PathStar(config) => Arc::new(PathStar::new(config)?),
        })
    }

    pub(super) fn chains(&self) -> Chains {
        match self {
            Self::Word(config) => config.chains,
            Self::Pointer(config) => config.chains,
            Self::Revcirc(config) => config.chains,
            Self::Addition(config) => config.chains,
            Self::Multiplication(config) => config.chains,
            Self::Table(config) => config.chains,
            Self::PathStar(config) => config.chains,
        }
    }
}

fn parsed(value: &str) -> Value {
    let only = |table: &Settings| table.len() == 1;
    let table = format!("value = {value}").parse::<Settings>().ok().filter(only);
    let found = table.and_then(|mut table| table.remove("value"));
    found.unwrap_or_else(|| Value::String(value.to_owned()))
}
