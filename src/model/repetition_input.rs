//! The input of a repetition of the core: the state after the previous one, normed and injected with
//! the prelude's output as configured.

use super::config::TransformerConfig;
use super::injection::{Injection, Injector};
use super::state_norm::{Norm, StateNorm};
use crate::autograd::{Tape, Value, Weights};
use crate::error::Result;

/// State norm and injection between two repetitions.
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

    /// The input of `repetition`, counted from 0, (B, T, D), from the state after the previous one and
    /// the prelude's last state, (B, T, D) each. The input of the first repetition is `state`.
    ///
    /// # Errors
    /// The shapes differ.
    pub fn forward(
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
