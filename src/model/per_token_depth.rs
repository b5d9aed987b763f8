//! Per-token depth: each token is applied its own number of repetitions of the core.
//!
//! A token that has stopped keeps its state; active tokens attend to the keys and values of its last
//! repetition, as in decoding with a shared cache. Geiping et al. 2025.

use candle_core::Tensor;

use super::causal_lm::CausalLm;
use super::looped::LoopedTransformer;
use super::looped_config::LoopedConfig;
use crate::autograd::{Tape, Value};
use crate::error::Result;
use crate::nn::{LastKeys, RopeTable, gather, scatter};

/// States, keys and values of all tokens, each after its last repetition so far.
#[derive(Debug, Clone)]
pub struct PerTokenStates {
    /// States, (B, T, D).
    pub state: Value,
    /// Keys and values by layer of the core; none before the first repetition.
    last: Vec<Option<LastKeys>>,
}

impl PerTokenStates {
    /// The states before the first repetition of a core of `layers`, from the prelude's, (B, T, D).
    #[must_use]
    pub fn new(state: Value, layers: usize) -> Self {
        Self { state, last: vec![None; layers] }
    }

    /// States, keys and values concatenated, (B, T, D + 2 K kv width); before the first repetition
    /// the states alone, (B, T, D).
    ///
    /// # Errors
    /// The device fails.
    pub fn packed(&self, tape: &Tape) -> Result<Value> {
        let (batch, tokens, _) = self.state.tensor().dims3()?;
        let mut parts = vec![self.state.clone()];
        for last in self.last.iter().flatten() {
            for part in [&last.keys, &last.values] {
                let width = part.tensor().elem_count() / (batch * tokens);
                parts.push(part.reshaped((batch, tokens, width))?);
            }
        }
        let parts: Vec<&Value> = parts.iter().collect();
        tape.composed(&parts, &[], |parts, _| Ok(Tensor::cat(parts, 2)?))
    }

    /// The inverse of [`Self::packed`] for a student of `config`.
    ///
    /// # Errors
    /// The width is not that of such a student.
    pub fn unpacked(tape: &Tape, packed: &Value, config: &LoopedConfig) -> Result<Self> {
        let (base, layers) = (&config.base, config.core_layers);
        let (batch, tokens, all) = packed.tensor().dims3()?;
        if all == base.width {
            return Ok(Self::new(packed.clone(), layers));
        }
        let part = |start: usize, width: usize| {
            tape.composed(&[packed], &[], |x, _| Ok(x[0].narrow(2, start, width)?.contiguous()?))
        };
        let width = base.kv_heads * base.head_width;
        let heads = |index: usize| {
            let shape = (batch, tokens, base.kv_heads, base.head_width);
            part(base.width + index * width, width)?.reshaped(shape)
        };
        let last = |layer: usize| {
            Ok(Some(LastKeys { keys: heads(2 * layer)?, values: heads(2 * layer + 1)? }))
        };
        let last = (0..layers).map(last).collect::<Result<_>>()?;
        Ok(Self { state: part(0, base.width)?, last })
    }
}

/// The tokens that are still active after `repetitions`, as indices into the flattened (B, T), which
/// `depths` is too.
#[must_use]
pub fn active_tokens(depths: &[usize], repetitions: usize) -> Vec<usize> {
    (0..depths.len()).filter(|&token| depths[token] > repetitions).collect()
}

impl LoopedTransformer {
    /// Applies `repetition`, counted from 0, to the tokens at `places`, indices into the flattened
    /// (B, T); the first repetition is applied to all tokens. `prelude_state` is (B, T, D). Returns
    /// the states after each layer of the core: (1, n, D), in the first repetition (B, T, D).
    ///
    /// # Errors
    /// A place is past the last token, or the widths differ.
    pub fn repeat_active(
        &self,
        tape: &Tape,
        tokens: &mut PerTokenStates,
        prelude_state: &Value,
        (repetition, places): (usize, &[usize]),
        table: &RopeTable,
    ) -> Result<Vec<Value>> {
        let active = |value: &Value| {
            let width = value.tensor().dim(2)?;
            gather(tape, value, places)?.reshaped((1, places.len(), width))
        };
        let mut x = if repetition == 0 {
            tokens.state.clone()
        } else {
            let injected =
                if self.injects() { active(prelude_state)? } else { prelude_state.clone() };
            self.inject(tape, &active(&tokens.state)?, &injected, repetition)?
        };
        let mut states = Vec::with_capacity(tokens.last.len());
        for (block, last) in self.core_at(repetition).iter().zip(&mut tokens.last) {
            x = block.forward_active(tape, &x, table, places, last)?;
            states.push(x.clone());
        }
        tokens.state = if repetition == 0 { x } else { scatter(tape, &tokens.state, &x, places)? };
        Ok(states)
    }

    /// The last state, (B, T, D), with each token applied its own number of repetitions, at least 1:
    /// `depths` is the flattened (B, T).
    ///
    /// # Errors
    /// An id is past the vocabulary.
    pub fn at_depths(&self, tape: &Tape, ids: &Tensor, depths: &[usize]) -> Result<Value> {
        let table = self.embedding_and_head().rope(0, ids.dim(1)?);
        let prelude = self.prelude(tape, ids, &table)?;
        let prelude_state = &prelude[prelude.len() - 1];
        let mut tokens = PerTokenStates::new(prelude_state.clone(), self.config().core_layers);
        for repetition in 0..depths.iter().copied().max().unwrap_or(0) {
            let places = active_tokens(depths, repetition);
            self.repeat_active(tape, &mut tokens, prelude_state, (repetition, &places), &table)?;
        }
        let last = self.coda(tape, &tokens.state, &table)?.pop();
        Ok(last.unwrap_or(tokens.state))
    }
}
