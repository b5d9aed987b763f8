//! Which of the states of teacher and student stand beside each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where hidden states are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Every {
    /// After every layer of the core.
    #[default]
    Layer,
    /// After every repetition.
    Repetition,
}
