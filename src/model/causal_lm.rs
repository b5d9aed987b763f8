//! The interface of teacher and student, and their forward pass.

use candle_core::Tensor;

use super::config::TransformerConfig;
use super::embedding_and_head::EmbeddingAndHead;
use super::looped_config::LoopedConfig;
use super::repetition_input::RepetitionInput;
use crate::autograd::{Tape, Value, Weights};
use crate::error::Result;
use crate::nn::{Block, BlockShape, LayerCache, RopeTable};

/// The KV cache: keys and values of the tokens read so far, by application of a layer.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    tokens: usize,
}

impl KvCache {
    /// Tokens read so far.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Positions of the next `tokens` and the caches to fill, in order of application.
    fn advance(&mut self, tokens: usize) -> (usize, &mut [LayerCache]) {
        let start = self.tokens;
        self.tokens += tokens;
        (start, &mut self.layers)
    }
}

/// The layers of a model, in order of application; those of an unshared stack are all prelude.
#[derive(Debug, Clone)]
pub struct LayerStacks<'a> {
    /// Before the core.
    pub prelude: &'a [Block],
    /// The core with the relaxation of each of the N repetitions.
    pub core: Vec<&'a [Block]>,
    /// After the core.
    pub coda: &'a [Block],
}

/// A causal language model, deep or factored.
pub trait CausalLm {
    /// Configuration of the unshared stack it is, or was factored from.
    fn base(&self) -> &TransformerConfig;

    /// The parts around its layers.
    fn embedding_and_head(&self) -> &EmbeddingAndHead;

    /// Its factorization; none for an unshared stack.
    fn factorization(&self) -> Option<&LoopedConfig> {
        None
    }

    /// Repetitions of the core it was trained for; 1 for an unshared stack.
    fn repetitions(&self) -> usize;

    /// Its layers.
    fn layer_stacks(&self) -> LayerStacks<'_>;

    /// Norm and injection before a repetition of the core; none where a repetition starts from the
    /// state after the previous one.
    fn repetition_input(&self) -> Option<&RepetitionInput> {
        None
    }

    /// The forward pass: embedding, prelude, `repetitions` of the core, coda. Calls `visit` with the
    /// residual stream after the embedding and after every application of a layer, and returns the
    /// last one, (B, T, D) each. With a `cache`, the tokens `ids`, (B, T), follow those in it. An
    /// unshared stack ignores `repetitions`.
    ///
    /// # Errors
    /// An id is past the vocabulary, or the device fails.
    fn forward(
        &self,
        tape: &Tape,
        ids: &Tensor,
        repetitions: usize,
        cache: Option<&mut KvCache>,
        visit: &mut dyn FnMut(&Value),
    ) -> Result<Value> {
        let LayerStacks { prelude, core, coda } = self.layer_stacks();
        let tokens = ids.dim(1)?;
        let (start, caches) = cache.map_or((0, &mut [][..]), |cache| cache.advance(tokens));
        let mut caches = caches.iter_mut();
        let table = self.embedding_and_head().rope(start, tokens);
        let embedded = self.embedding_and_head().embed(tape, ids)?;
        visit(&embedded);
        let mut apply =
            |blocks, state| apply_blocks(tape, blocks, state, &table, &mut caches, visit);
        let prelude_state = apply(prelude, embedded)?;
        let mut state = prelude_state.clone();
        if !core.is_empty() {
            for repetition in 0..repetitions {
                if let Some(input) = self.repetition_input() {
                    state = input.forward(tape, &state, &prelude_state, repetition)?;
                }
                state = apply(core[repetition.min(core.len() - 1)], state)?;
            }
        }
        apply(coda, state)
    }

    /// The coda applied to a state of the core, (B, T, D); the state itself without a coda.
    ///
    /// # Errors
    /// The width differs.
    fn after_core(&self, tape: &Tape, state: &Value) -> Result<Value> {
        let coda = self.layer_stacks().coda;
        let table = self.embedding_and_head().rope(0, state.tensor().dim(1)?);
        Ok(chain(tape, coda, state, &table)?.pop().unwrap_or_else(|| state.clone()))
    }

    /// The residual stream after the embedding and after every application of a layer, each
    /// (B, T, D); an unshared stack ignores `repetitions`.
    ///
    /// # Errors
    /// As [`CausalLm::forward`].
    fn states(&self, tape: &Tape, ids: &Tensor, repetitions: usize) -> Result<Vec<Value>> {
        let mut states = Vec::new();
        self.forward(tape, ids, repetitions, None, &mut |state| states.push(state.clone()))?;
        Ok(states)
    }

    /// An empty cache for decoding at `repetitions`.
    fn new_cache(&self, repetitions: usize) -> KvCache {
        let LayerStacks { prelude, core, coda } = self.layer_stacks();
        let core = core.first().map_or(0, |layers| layers.len() * repetitions);
        KvCache { layers: vec![None; prelude.len() + core + coda.len()], tokens: 0 }
    }

    /// The last state, (B, T, D), of new tokens, (B, T), that follow those in `cache`.
    ///
    /// # Errors
    /// As [`CausalLm::forward`].
    fn forward_cached(
        &self,
        ids: &Tensor,
        cache: &mut KvCache,
        repetitions: usize,
    ) -> Result<Tensor> {
        let state = self.forward(&Tape::off(), ids, repetitions, Some(cache), &mut |_| ())?;
        Ok(state.tensor().clone())
    }
}

/// Applies blocks one after the other, each with the next of `caches` if there are any left; calls
/// `visit` with the state after each.
fn apply_blocks(
    tape: &Tape,
    blocks: &[Block],
    mut state: Value,
    table: &RopeTable,
    caches: &mut std::slice::IterMut<'_, LayerCache>,
    visit: &mut dyn FnMut(&Value),
) -> Result<Value> {
    for block in blocks {
        state = block.forward(tape, &state, table, caches.next())?;
        visit(&state);
    }
    Ok(state)
}

/// The states after each block, applied in a chain, (B, T, D) each.
pub(super) fn chain(
    tape: &Tape,
    blocks: &[Block],
    state: &Value,
    table: &RopeTable,
) -> Result<Vec<Value>> {
    let mut states = Vec::with_capacity(blocks.len());
    let mut visit = |state: &Value| states.push(state.clone());
    apply_blocks(tape, blocks, state.clone(), table, &mut [].iter_mut(), &mut visit)?;
    Ok(states)
}

/// The block shape of layer `layer` of the unshared stack.
fn block_shape(config: &TransformerConfig, layer: usize) -> BlockShape {
    BlockShape {
        head_width: config.head_width,
        norm_eps: config.norm_eps,
        window: config.window(layer),
    }
}

/// One block for every pair of a name prefix and a layer of the unshared stack, in order.
pub(super) fn blocks(
    config: &TransformerConfig,
    weights: &dyn Weights,
    prefixes: impl Iterator<Item = (String, usize)>,
    repetition: Option<usize>,
) -> Result<Vec<Block>> {
    prefixes
        .map(|(prefix, layer)| Block::new(weights, &prefix, block_shape(config, layer), repetition))
        .collect()
}
