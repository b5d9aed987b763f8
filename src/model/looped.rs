//! The student: a small block applied again and again.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::between::{Between, Norm};
use super::causal_lm::{Anatomy, CausalLm, Frame, KvCache, blocks};
use super::config::TransformerConfig;
use super::gate::{self, Head};
use super::injection::{Injection, Injector};
use crate::autograd::{Tape, Value, Weights};
use crate::error::{Error, Result};
use crate::halting::{Gate, JointPolicy};
use crate::nn::{Block, RopeTable};

/// What may differ between repetitions of the core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Relaxation {
    /// Nothing.
    #[default]
    None,
    /// Every matrix has a correction of this rank, and the vectors are its own. Bae et al. 2024.
    Lora {
        /// Rank of the correction.
        rank: usize,
    },
    /// The vectors: norms and biases.
    Norms,
}

/// Prelude, core x N, coda: how a stack is factored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoopedConfig {
    /// The stack it was made from; `layers` counts the teacher's.
    pub base: TransformerConfig,
    /// Layers before the core, not shared.
    pub prelude_layers: usize,
    /// K, layers of the core.
    pub core_layers: usize,
    /// N, how often the core is applied.
    pub repetitions: usize,
    /// Layers after the core, not shared.
    pub coda_layers: usize,
    /// What differs between repetitions.
    #[serde(default)]
    pub relaxation: Relaxation,
    /// What of the prelude's output every repetition hears.
    #[serde(default, skip_serializing_if = "Injection::is_none")]
    pub injection: Injection,
    /// What is done to the state between two repetitions.
    #[serde(default, skip_serializing_if = "Between::is_none")]
    pub between: Between,
    /// The policy whose gate learned together with the student.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<JointPolicy>,
}

impl LoopedConfig {
    /// Refuses shapes that cannot be built.
    ///
    /// # Errors
    /// The first value out of its range.
    pub fn validate(&self) -> Result<()> {
        self.base.validate()?;
        if self.core_layers == 0 || self.repetitions == 0 {
            return Err(Error::input(format!(
                "a core of {} layers x {} repetitions does nothing: expected 1 or more of both",
                self.core_layers, self.repetitions
            )));
        }
        if self.gate.is_some() && self.repetitions < 2 {
            return Err(Error::input("with 1 repetition a gate has nothing to choose")
                .hint("raise student.repetitions, or leave out loss.halting"));
        }
        if self.repetitions > 1 << 16 {
            return Err(Error::input(format!("{} repetitions are too many", self.repetitions)));
        }
        let kept = self.prelude_layers + self.coda_layers + self.core_layers;
        if kept > self.base.layers {
            return Err(Error::input(format!(
                "prelude {} + core {} + coda {} are {kept} layers, the teacher has {}",
                self.prelude_layers, self.core_layers, self.coda_layers, self.base.layers
            ))
            .hint("a student keeps at most as many layers as its teacher has"));
        }
        if self.relaxation == (Relaxation::Lora { rank: 0 }) {
            return Err(Error::input("a LoRA of rank 0 corrects nothing")
                .hint("write relaxation = { kind = \"none\" }"));
        }
        Ok(())
    }

    /// The teacher's layers that the core stands for.
    #[must_use]
    pub fn middle(&self) -> std::ops::Range<usize> {
        self.prelude_layers..self.base.layers - self.coda_layers
    }

    /// Whether every application of a layer hears the one before it and nothing else.
    #[must_use]
    pub fn is_chain(&self) -> bool {
        self.injection.is_none() && self.between.is_none()
    }

    /// Applications of a layer at `repetitions`.
    #[must_use]
    pub fn applications(&self, repetitions: usize) -> usize {
        self.prelude_layers + self.core_layers * repetitions + self.coda_layers
    }

    /// Every tensor by name, with its shape.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let outer = self.base.outer_tensors();
        let mut tensors: Vec<_> =
            outer.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect();
        let parts = [
            ("prelude", self.prelude_layers),
            ("core", self.core_layers),
            ("coda", self.coda_layers),
        ];
        for (part, layers) in parts {
            for layer in 0..layers {
                for (name, shape) in self.base.layer_tensors() {
                    let name = format!("{part}.{layer}.{name}");
                    if part == "core" {
                        tensors.extend(self.relaxed(&name, &shape));
                    } else {
                        tensors.push((name, shape));
                    }
                }
            }
        }
        tensors.extend(self.injection.tensors(self.base.width));
        tensors.extend(self.between.tensors(self.base.width));
        tensors.extend(gate::tensors(self));
        tensors
    }

    /// What stands for the core's tensor `name`: the tensor itself, and what each repetition adds;
    /// or, of a vector that is not shared, each repetition's own.
    fn relaxed(&self, name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
        let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "weight"));
        let repetitions = 0..self.repetitions;
        match (self.relaxation, shape) {
            (Relaxation::Lora { .. } | Relaxation::Norms, &[width]) => repetitions
                .map(|r| (format!("{stem}.repetition.{r}.{kind}"), vec![width]))
                .collect(),
            (Relaxation::Lora { rank }, &[out, inner]) => repetitions
                .flat_map(|r| {
                    let part = |part: &str| format!("{stem}.lora.{r}.{part}");
                    [(part("a"), vec![rank, inner]), (part("b"), vec![out, rank])]
                })
                .chain([(name.to_owned(), shape.to_vec())])
                .collect(),
            _ => vec![(name.to_owned(), shape.to_vec())],
        }
    }

    /// The layer of the teacher that core layer `layer` stands for at `repetition`.
    #[must_use]
    pub fn stands_for(&self, repetition: usize, layer: usize) -> usize {
        let (middle, count) = (self.middle(), self.core_layers * self.repetitions);
        let application = repetition.min(self.repetitions - 1) * self.core_layers + layer;
        middle.start + (2 * application + 1) * middle.len() / (2 * count)
    }
}

/// A decoder of a prelude, a core of K layers applied N times, and a coda.
#[derive(Debug, Clone)]
pub struct LoopedTransformer {
    config: LoopedConfig,
    frame: Frame,
    prelude: Vec<Block>,
    core: Vec<Vec<Block>>,
    coda: Vec<Block>,
    norm: Norm,
    injector: Injector,
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
            frame: Frame::new(base, weights)?,
            prelude: blocks(base, weights, prelude, None)?,
            core: (0..config.repetitions)
                .map(|repetition| blocks(base, weights, core(), Some(repetition)))
                .collect::<Result<_>>()?,
            coda: blocks(base, weights, coda, None)?,
            norm: Norm::new(config.between, base, weights)?,
            injector: Injector::new(config.injection, base, weights)?,
            gate: Head::new(config, weights)?,
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
        let embedded = self.frame.embed(tape, ids)?;
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
        if repetition == 0 {
            return Ok(state.clone());
        }
        self.injector.inject(tape, &self.norm.apply(tape, state)?, prelude_state)
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

    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn factorization(&self) -> Option<&LoopedConfig> {
        Some(&self.config)
    }

    fn repetitions(&self) -> usize {
        self.config.repetitions
    }

    fn anatomy(&self) -> Anatomy<'_> {
        let core = self.core.iter().map(Vec::as_slice).collect();
        Anatomy { prelude: &self.prelude, core, coda: &self.coda, student: Some(self) }
    }

    fn states(&self, tape: &Tape, ids: &Tensor, repetitions: usize) -> Result<Vec<Value>> {
        let table = self.frame.rope(0, ids.dim(1)?);
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
        let table = self.frame.rope(start, tokens);
        let mut caches = caches.iter_mut();
        let mut apply = |blocks: &[Block], state: Value| {
            let mut pairs = blocks.iter().zip(caches.by_ref());
            pairs.try_fold(state, |state, (block, cache)| {
                block.forward(&tape, &state, &table, Some(cache))
            })
        };
        let first = apply(&self.prelude, self.frame.embed(&tape, ids)?)?;
        let mut state = first.clone();
        for repetition in 0..repetitions {
            state = self.inject(&tape, &state, &first, repetition)?;
            state = apply(self.core_at(repetition), state)?;
        }
        Ok(apply(&self.coda, state)?.tensor().clone())
    }
}
