//! The student: a small block applied again and again.

use candle_core::Tensor;

use super::causal_lm::{CausalLm, LayerStacks, blocks, chain};
use super::config::TransformerConfig;
use super::embedding_and_head::EmbeddingAndHead;
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

    /// Its factorization.
    #[must_use]
    pub fn config(&self) -> &LoopedConfig {
        &self.config
    }

    /// The embedding and the state after each layer of the prelude, each (B, T, D).
    ///
    /// # Errors
    /// An id is past the vocabulary.
    pub fn prelude(&self, tape: &Tape, ids: &Tensor, table: &RopeTable) -> Result<Vec<Value>> {
        let embedded = self.embedding_and_head.embed(tape, ids)?;
        let mut states = chain(tape, &self.prelude, &embedded, table)?;
        states.insert(0, embedded);
        Ok(states)
    }

    /// The input of `repetition`, counted from 0: the state after the previous one, (B, T, D), normed
    /// and injected with the prelude's last state, (B, T, D), as configured. The input of the first
    /// repetition is the prelude's state.
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
        self.input.forward(tape, state, prelude_state, repetition)
    }

    /// The states after each layer of the core at `repetition`, counted from 0, each (B, T, D), from
    /// the output of [`Self::inject`]. Past the trained repetitions the last relaxation is used.
    ///
    /// # Errors
    /// The width differs.
    pub fn repeat(
        &self,
        tape: &Tape,
        state: &Value,
        repetition: usize,
        table: &RopeTable,
    ) -> Result<Vec<Value>> {
        chain(tape, self.core_at(repetition), state, table)
    }

    /// The states after each layer of the coda, each (B, T, D); empty without a coda.
    ///
    /// # Errors
    /// The width differs.
    pub fn coda(&self, tape: &Tape, state: &Value, table: &RopeTable) -> Result<Vec<Value>> {
        chain(tape, &self.coda, state, table)
    }

    /// Logits of its halting head, (.., 1), of states after `repetition`, counted from 0, (.., D);
    /// none without a halting head.
    ///
    /// # Errors
    /// The width differs.
    pub fn halting_logits(
        &self,
        tape: &Tape,
        state: &Value,
        repetition: usize,
    ) -> Result<Option<Value>> {
        self.gate.as_ref().map(|gate| gate.logits(tape, state, repetition)).transpose()
    }

    /// Its halting head as a gate, with the policy it was trained for.
    ///
    /// # Errors
    /// The device fails.
    pub fn halting_gate(&self) -> Result<Option<(JointPolicy, Gate)>> {
        self.gate.as_ref().map(Head::gate).transpose()
    }

    /// Whether a repetition has a norm or an injection before it.
    pub(crate) fn injects(&self) -> bool {
        !self.config.is_chain()
    }

    /// The layers of the core with the relaxation of `repetition`, counted from 0.
    #[must_use]
    pub fn core_at(&self, repetition: usize) -> &[Block] {
        &self.core[repetition.min(self.core.len() - 1)]
    }
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
}
