//! The depth at which tokens are read.

use crate::halting::{Gate, HaltingPolicy};

/// The depth at which tokens are read: fixed, or decided by a halting policy.
#[derive(Clone, Copy)]
pub struct ReadDepth<'a> {
    /// Most repetitions of a token, with any policy.
    pub most: usize,
    /// The policy that stops a token earlier, and the gate it reads.
    pub policy: Option<(&'a dyn HaltingPolicy, Option<&'a Gate>)>,
}

impl ReadDepth<'_> {
    /// All tokens at depth `repetitions`.
    #[must_use]
    pub fn fixed(repetitions: usize) -> Self {
        Self { most: repetitions, policy: None }
    }

    pub(super) fn reads_output(&self) -> bool {
        self.policy.is_some_and(|(policy, _)| policy.reads().output)
    }
}
