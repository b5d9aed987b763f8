//! A task from its configuration, and the lengths of its chains.

use super::config::TaskConfig;
use super::task::Task;
use crate::error::Result;

impl TaskConfig {
    /// The task, its settings checked.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn build(&self) -> Result<Task> {
        Task::new(self.clone())
    }

    /// Refuses settings out of their range.
    ///
    /// # Errors
    /// The first of them.
    pub fn validate(&self) -> Result<()> {
        self.build().map(|_| ())
    }

    /// T, the steps of its longest chain.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Self::Word(config) => config.length,
            Self::Pointer(config) => config.hops,
            Self::Revcirc(config) => config.gates,
            Self::Addition(config) => config.operands,
            Self::Multiplication(config) => config.digits,
            Self::Table(config) => config.length,
            Self::PathStar(config) => config.length,
        }
    }

    /// The same task with chains of `length`.
    #[must_use]
    pub fn with_length(&self, length: usize) -> Self {
        let mut changed = self.clone();
        let place = match &mut changed {
            Self::Word(config) => &mut config.length,
            Self::Pointer(config) => &mut config.hops,
            Self::Revcirc(config) => &mut config.gates,
            Self::Addition(config) => &mut config.operands,
            Self::Multiplication(config) => &mut config.digits,
            Self::Table(config) => &mut config.length,
            Self::PathStar(config) => &mut config.length,
        };
        *place = length;
        changed
    }

    /// What it is called in a table: its name and its length.
    #[must_use]
    pub fn label(&self) -> String {
        let length = self.length();
        match self {
            Self::Word(config) => {
                format!("word {} {length}", format!("{:?}", config.group).to_lowercase())
            }
            Self::Pointer(config) => format!("pointer {} {length}", config.nodes),
            Self::Revcirc(config) => format!("revcirc {} {length}", config.wires),
            Self::Addition(config) => format!("addition {length} of {}", config.digits),
            Self::Multiplication(_) => format!("multiplication {length}"),
            Self::Table(config) => format!("table {} {length}", config.keys),
            Self::PathStar(config) => format!("path-star {} {length}", config.arms),
        }
    }

    /// Tokens of an example whose steps are read out of slots at its end.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.build().map_or(0, |task| task.input_tokens(task.chain_length()) + 1 + task.width())
    }
}
