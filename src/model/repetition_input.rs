//! What a repetition of the core starts from: the state after the one before it, normed if it is, and
//! what its injection takes of the prelude's output.

use super::config::TransformerConfig;
use super::injection::{Injection, Injector};
use super::state_norm::{Norm, StateNorm};
use crate::autograd::{Tape, Value, Weights};
use crate::error::Result;

/// Brings a state from one repetition to the next.
#[derive(Debug, Clone)]
pub struct RepetitionInput {
    norm: Norm,
    injector: Injector,
}

impl RepetitionInput {
    pub(super) fn new(
        (state_norm, injection): (StateNorm, Injection),
        base: &TransformerConfig,
        weights: &dyn Weights,
    ) -> Result<Self> {
        Ok(Self {
            norm: Norm::new(state_norm, base, weights)?,
            injector: Injector::new(injection, base, weights)?,
        })
    }

    /// What `repetition`, counted from 0, starts from: of the state after the one before it and of
    /// the prelude's last state, (B, T, D) each. The first starts from the prelude's, as it is.
    ///
    /// # Errors
    /// The shapes differ.
    pub fn of(
        &self,
        tape: &Tape,
        state: &Value,
        prelude_state: &Value,
        repetition: usize,
    ) -> Result<Value> {
        if repetition == 0 {
            return Ok(state.clone());
        }
        self.injector.inject(tape, &self.norm.apply(tape, state)?, prelude_state)
    }
}
