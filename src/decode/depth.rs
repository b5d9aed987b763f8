//! How deeply tokens are read.

use crate::halting::{Gate, HaltingPolicy};

/// How deeply tokens are read.
#[derive(Clone, Copy)]
pub struct ReadDepth<'a> {
    /// Repetitions at most; every policy is bounded by it.
    pub most: usize,
    /// When a token stops before, and its gate.
    pub policy: Option<(&'a dyn HaltingPolicy, Option<&'a Gate>)>,
}

impl ReadDepth<'_> {
    /// All tokens at `repetitions`.
    #[must_use]
    pub fn fixed(repetitions: usize) -> Self {
        Self { most: repetitions, policy: None }
    }

    pub(super) fn reads_output(&self) -> bool {
        self.policy.is_some_and(|(policy, _)| policy.reads().output)
    }
}
