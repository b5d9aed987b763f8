//! An unshared stack, such as the teacher: a decoder whose layers have their own weights.

use candle_core::Tensor;

use super::causal_lm::{CausalLm, EmbeddingAndHead, KvCache, LayerStacks, blocks};
use super::config::TransformerConfig;
use crate::autograd::{Tape, Value, Weights};
use crate::error::Result;
use crate::nn::Block;

/// A decoder of L layers, each with its own weights.
#[derive(Debug, Clone)]
pub struct Transformer {
    config: TransformerConfig,
    embedding_and_head: EmbeddingAndHead,
    layers: Vec<Block>,
}

impl Transformer {
    /// Takes the tensors of [`TransformerConfig::tensors`] by name. It is frozen when they are.
    ///
    /// # Errors
    /// The configuration is impossible, or a tensor is missing.
    pub fn new(config: &TransformerConfig, weights: &dyn Weights) -> Result<Self> {
        config.validate()?;
        let prefixes = (0..config.layers).map(|layer| (format!("layers.{layer}"), layer));
        Ok(Self {
            embedding_and_head: EmbeddingAndHead::new(config, weights)?,
            layers: blocks(config, weights, prefixes, None)?,
            config: config.clone(),
        })
    }

    /// The embedding and the residual stream after each of the first `layers` layers, each
    /// (B, T, D); records nothing.
    ///
    /// # Errors
    /// An id is past the vocabulary.
    pub fn states_through(&self, ids: &Tensor, layers: usize) -> Result<Vec<Tensor>> {
        let states = self.run(&Tape::off(), ids, layers)?;
        Ok(states.into_iter().map(|state| state.tensor().clone()).collect())
    }

    fn run(&self, tape: &Tape, ids: &Tensor, layers: usize) -> Result<Vec<Value>> {
        let table = self.embedding_and_head.rope(0, ids.dim(1)?);
        let mut states = vec![self.embedding_and_head.embed(tape, ids)?];
        for layer in &self.layers[..layers.min(self.layers.len())] {
            let state = layer.forward(tape, &states[states.len() - 1], &table, None)?;
            states.push(state);
        }
        Ok(states)
    }

    /// Layer `layer` of the stack, counted from 0.
    #[must_use]
    pub fn layer(&self, layer: usize) -> Option<&Block> {
        self.layers.get(layer)
    }
}

impl CausalLm for Transformer {
    fn base(&self) -> &TransformerConfig {
        &self.config
    }

    fn embedding_and_head(&self) -> &EmbeddingAndHead {
        &self.embedding_and_head
    }

    fn repetitions(&self) -> usize {
        1
    }

    fn layer_stacks(&self) -> LayerStacks<'_> {
        LayerStacks { prelude: &self.layers, core: Vec::new(), coda: &[] }
    }

    fn states(&self, tape: &Tape, ids: &Tensor, _repetitions: usize) -> Result<Vec<Value>> {
        self.run(tape, ids, self.layers.len())
    }

    fn new_cache(&self, _repetitions: usize) -> KvCache {
        KvCache::new(self.layers.len())
    }

    fn forward_cached(&self, ids: &Tensor, cache: &mut KvCache, _: usize) -> Result<Tensor> {
        let tape = Tape::off();
        let tokens = ids.dim(1)?;
        let (start, caches) = cache.advance(tokens);
        let table = self.embedding_and_head.rope(start, tokens);
        let mut state = self.embedding_and_head.embed(&tape, ids)?;
        for (layer, cache) in self.layers.iter().zip(caches) {
            state = layer.forward(&tape, &state, &table, Some(cache))?;
        }
        Ok(state.tensor().clone())
    }
}
