//! The attention mask.

use std::ops::Range;

/// The causal attention mask: offset of the queries, and a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Position of the first query among the keys.
    pub start: usize,
    /// Sliding window in keys, the query's own included; none for full causal attention.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// Whether query `query`, counted from the first one, attends to key `key`.
    #[must_use]
    pub fn attends(&self, query: usize, key: usize) -> bool {
        self.keys(query).contains(&key)
    }

    /// The keys that `query` attends to.
    pub(super) fn keys(&self, query: usize) -> Range<usize> {
        let end = self.start + query + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// The keys that any of `queries` attends to.
    pub(super) fn keys_of(&self, queries: &Range<usize>) -> Range<usize> {
        self.keys(queries.start).start..self.keys(queries.end - 1).end
    }
}
