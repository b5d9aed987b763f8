//! Forms of operations: which keys a query sees, and how GELU is computed.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who sees whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Position of the first query among the keys.
    pub start: usize,
    /// A query sees this many keys, its own included; none: all before it.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// Whether `query` (counted from the first query) sees `key`.
    #[must_use]
    pub fn sees(&self, query: usize, key: usize) -> bool {
        self.keys(query).contains(&key)
    }

    /// The keys that `query` sees.
    pub(super) fn keys(&self, query: usize) -> Range<usize> {
        let end = self.start + query + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// The keys that any of the `queries` sees.
    pub(super) fn keys_of(&self, queries: &Range<usize>) -> Range<usize> {
        self.keys(queries.start).start..self.keys(queries.end - 1).end
    }
}

/// How the normal distribution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeluForm {
    /// By a hyperbolic tangent that comes within 5e-4 of it.
    Tanh,
    /// By the error function.
    Erf,
}
