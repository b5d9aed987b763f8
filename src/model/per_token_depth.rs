//! How do tokens go through the core when each stops at its own depth?
//!
//! One that stopped keeps its state, and those that go on read the keys and values of its last
//! repetition: as decoding does that shares its cache so, Geiping et al. 2025.

use candle_core::Tensor;

use super::causal_lm::CausalLm;
use super::looped::LoopedTransformer;
use super::looped_config::LoopedConfig;
use crate::autograd::{Tape, Value};
use crate::error::Result;
use crate::nn::gather::{gather, scatter};
use crate::nn::{LastKeys, RopeTable};

/// All tokens, each after its last repetition so far.
#[derive(Debug, Clone)]
pub struct PerTokenStates {
    /// Their states, (B, T, D).
    pub state: Value,
    /// By layer of the core: none before the first repetition.
    last: Vec<Option<LastKeys>>,
}

impl PerTokenStates {
    /// Before the first repetition of a core of `layers`, with the prelude's state, (B, T, D).
    #[must_use]
    pub fn new(state: Value, layers: usize) -> Self {
        Self { state, last: vec![None; layers] }
    }

    /// All of it as one value: (B, T, D + 2 K kv width), before the first repetition (B, T, D).
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

    /// What was [`Self::packed`], of a student.
    ///
    /// # Errors
    /// It was of another one.
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

/// Which of the tokens go on after `repetitions`, counted through (B, T) row by row as their `depths`
/// are.
#[must_use]
pub fn active_tokens(depths: &[usize], repetitions: usize) -> Vec<usize> {
    (0..depths.len()).filter(|&token| depths[token] > repetitions).collect()
}

impl LoopedTransformer {
    /// Takes the `tokens` at `places`, counted through (B, T) row by row, through `repetition`,
    /// counted from 0 and for all tokens the first; the prelude gave `first`, (B, T, D). Gives their
    /// states after each layer of the core: (1, n, D), after the first repetition (B, T, D).
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn repeat_some(
        &self,
        tape: &Tape,
        tokens: &mut PerTokenStates,
        first: &Value,
        (repetition, places): (usize, &[usize]),
        table: &RopeTable,
    ) -> Result<Vec<Value>> {
        let some = |value: &Value| {
            let width = value.tensor().dim(2)?;
            gather(tape, value, places)?.reshaped((1, places.len(), width))
        };
        let mut x = if repetition == 0 {
            tokens.state.clone()
        } else {
            let heard = if self.injects() { some(first)? } else { first.clone() };
            self.inject(tape, &some(&tokens.state)?, &heard, repetition)?
        };
        let mut states = Vec::with_capacity(tokens.last.len());
        for (block, last) in self.core_at(repetition).iter().zip(&mut tokens.last) {
            x = block.forward_some(tape, &x, table, places, last)?;
            states.push(x.clone());
        }
        tokens.state = if repetition == 0 { x } else { scatter(tape, &tokens.state, &x, places)? };
        Ok(states)
    }

    /// The last state of tokens, (B, T, D), of which each goes through the core as often as its
    /// depth says, once or more: B T `depths`, row by row.
    ///
    /// # Errors
    /// An id is past the vocabulary.
    pub fn at_depths(&self, tape: &Tape, ids: &Tensor, depths: &[usize]) -> Result<Value> {
        let table = self.embedding_and_head().rope(0, ids.dim(1)?);
        let prelude = self.prelude(tape, ids, &table)?;
        let first = &prelude[prelude.len() - 1];
        let mut tokens = PerTokenStates::new(first.clone(), self.config().core_layers);
        for repetition in 0..depths.iter().copied().max().unwrap_or(0) {
            let places = active_tokens(depths, repetition);
            self.repeat_some(tape, &mut tokens, first, (repetition, &places), &table)?;
        }
        let last = self.coda(tape, &tokens.state, &table)?.pop();
        Ok(last.unwrap_or(tokens.state))
    }
}
