//! The granularity at which a core is compared, forced or read out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// After which parts of the core something happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// After every layer of the core.
    #[default]
    Layer,
    /// After every repetition.
    Repetition,
}
