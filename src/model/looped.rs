//! The student: a small block applied again and again.

use candle_core::Tensor;

use super::causal_lm::{CausalLm, EmbeddingAndHead, KvCache, LayerStacks, blocks};
use super::config::TransformerConfig;
use super::halting_head::Head;
use super::looped_config::LoopedConfig;
use super::repetition_input::RepetitionInput;
use crate::autograd::{Tape, Value, Weights};
use crate::error::Result;
use crate::halting::{Gate, JointPolicy};
use crate::nn::{Block, RopeTable};

/// A decoder of a prelude, a core of K layers applied N times, and a coda.
#[derive(Debug, Clone)]
pub struct LoopedTransformer {
    config: LoopedConfig,
    embedding_and_head: EmbeddingAndHead,
    prelude: Vec<Block>,
    core: Vec<Vec<Block>>,
    coda: Vec<Block>,
    input: RepetitionInput,
    gate: Option<Head>,
}

impl LoopedTransformer {
    /// Takes the tensors of [`LoopedConfig::tensors`] by name. It is frozen when they are.
    ///
    /// # Errors
    /// The configuration is impossible, or a tensor is missing.
    pub fn new(config: &LoopedConfig, weights: &dyn Weights) -> Result<Self> {
        config.validate()?;
        let base = &config.base;
        let part = |part: &'static str, layers: usize, first: usize| {
            (0..layers).map(move |layer| (format!("{part}.{layer}"), first + layer))
        };
        let prelude = part("prelude", config.prelude_layers, 0);
        let coda = part("coda", config.coda_layers, base.layers - config.coda_layers);
        let core = || part("core", config.core_layers, config.prelude_layers);
        Ok(Self {
            embedding_and_head: EmbeddingAndHead::new(base, weights)?,
            prelude: blocks(base, weights, prelude, None)?,
            core: (0..config.repetitions)
                .map(|repetition| blocks(base, weights, core(), Some(repetition)))
                .collect::<Result<_>>()?,
            coda: blocks(base, weights, coda, None)?,
            input: RepetitionInput::new((config.state_norm, config.injection), base, weights)?,
            gate: Head::new(config.gate, weights)?,
            config: config.clone(),
        })
    }

    /// How it is factored.
    #[must_use]
    pub fn config(&self) -> &LoopedConfig {
        &self.config
    }

    /// The embedding and the state after each layer of the prelude.
    ///
    /// # Errors
    /// An id is past the vocabulary.
    pub fn prelude(&self, tape: &Tape, ids: &Tensor, table: &RopeTable) -> Result<Vec<Value>> {
        let embedded = self.embedding_and_head.embed(tape, ids)?;
        let mut states = chain(tape, &self.prelude, &embedded, table)?;
        states.insert(0, embedded);
        Ok(states)
    }

    /// What `repetition`, counted from 0, starts from: the state after the one before it, (B, T, D),
    /// normed if it is, and what its injection takes of the prelude's last state, (B, T, D). The
    /// first repetition starts from the prelude's own, as it is.
    ///
    /// # Errors
    /// The shapes differ.
    pub fn inject(
        &self,
        tape: &Tape,
        state: &Value,
        prelude_state: &Value,
        repetition: usize,
    ) -> Result<Value> {
        self.input.of(tape, state, prelude_state, repetition)
    }

    /// The states after each layer of the core at `repetition`, counted from 0, from what
    /// [`Self::inject`] gives. Past the last one trained, the last one's relaxation goes on.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn repeat(
        &self,
        tape: &Tape,
        state: &Value,
        repetition: usize,
        table: &RopeTable,
    ) -> Result<Vec<Value>> {
        chain(tape, self.core_at(repetition), state, table)
    }

    /// The states after each layer of the coda; the state itself when there is none.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn coda(&self, tape: &Tape, state: &Value, table: &RopeTable) -> Result<Vec<Value>> {
        chain(tape, &self.coda, state, table)
    }

    /// What its own gate says of states after `repetition`, counted from 0, (.., D), before the
    /// sigmoid: (.., 1). None without a gate that learned with it.
    ///
    /// # Errors
    /// The width is another.
    pub fn halting_logits(
        &self,
        tape: &Tape,
        state: &Value,
        repetition: usize,
    ) -> Result<Option<Value>> {
        self.gate.as_ref().map(|gate| gate.logits(tape, state, repetition)).transpose()
    }

    /// The gate that learned with it, as its policy reads it.
    ///
    /// # Errors
    /// The device fails.
    pub fn halting_gate(&self) -> Result<Option<(JointPolicy, Gate)>> {
        self.gate.as_ref().map(Head::numbers).transpose()
    }

    /// Whether a repetition starts from anything but the state after the one before it.
    pub(crate) fn injects(&self) -> bool {
        !self.config.is_chain()
    }

    /// The layers of the core with the relaxation of `repetition`.
    #[must_use]
    pub fn core_at(&self, repetition: usize) -> &[Block] {
        &self.core[repetition.min(self.core.len() - 1)]
    }
}

/// The state after each block, one feeding the next.
fn chain(tape: &Tape, blocks: &[Block], state: &Value, table: &RopeTable) -> Result<Vec<Value>> {
    let mut states: Vec<Value> = Vec::with_capacity(blocks.len());
    for block in blocks {
        let before = states.last().unwrap_or(state);
        let after = block.forward(tape, before, table, None)?;
        states.push(after);
    }
    Ok(states)
}

impl CausalLm for LoopedTransformer {
    fn base(&self) -> &TransformerConfig {
        &self.config.base
    }

    fn embedding_and_head(&self) -> &EmbeddingAndHead {
        &self.embedding_and_head
    }

    fn factorization(&self) -> Option<&LoopedConfig> {
        Some(&self.config)
    }

    fn repetitions(&self) -> usize {
        self.config.repetitions
    }

    fn layer_stacks(&self) -> LayerStacks<'_> {
        let core = self.core.iter().map(Vec::as_slice).collect();
        LayerStacks { prelude: &self.prelude, core, coda: &self.coda }
    }

    fn repetition_input(&self) -> Option<&RepetitionInput> {
        self.injects().then_some(&self.input)
    }

    fn after_core(&self, tape: &Tape, state: &Value) -> Result<Value> {
        let table = self.embedding_and_head.rope(0, state.tensor().dim(1)?);
        Ok(self.coda(tape, state, &table)?.pop().unwrap_or_else(|| state.clone()))
    }

    fn states(&self, tape: &Tape, ids: &Tensor, repetitions: usize) -> Result<Vec<Value>> {
        let table = self.embedding_and_head.rope(0, ids.dim(1)?);
        let mut states = self.prelude(tape, ids, &table)?;
        let first = states[states.len() - 1].clone();
        for repetition in 0..repetitions {
            let state = self.inject(tape, &states[states.len() - 1], &first, repetition)?;
            states.extend(self.repeat(tape, &state, repetition, &table)?);
        }
        states.extend(self.coda(tape, &states[states.len() - 1], &table)?);
        Ok(states)
    }

    fn new_cache(&self, repetitions: usize) -> KvCache {
        KvCache::new(self.config.applications(repetitions))
    }

    fn forward_cached(
        &self,
        ids: &Tensor,
        cache: &mut KvCache,
        repetitions: usize,
    ) -> Result<Tensor> {
        let tape = Tape::off();
        let tokens = ids.dim(1)?;
        let (start, caches) = cache.advance(tokens);
        let table = self.embedding_and_head.rope(start, tokens);
        let mut caches = caches.iter_mut();
        let mut apply = |blocks: &[Block], state: Value| {
            let mut pairs = blocks.iter().zip(caches.by_ref());
            pairs.try_fold(state, |state, (block, cache)| {
                block.forward(&tape, &state, &table, Some(cache))
            })
        };
        let first = apply(&self.prelude, self.embedding_and_head.embed(&tape, ids)?)?;
        let mut state = first.clone();
        for repetition in 0..repetitions {
            state = self.inject(&tape, &state, &first, repetition)?;
            state = apply(self.core_at(repetition), state)?;
        }
        Ok(apply(&self.coda, state)?.tensor().clone())
    }
}
