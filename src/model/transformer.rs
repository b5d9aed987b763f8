//! An unshared stack, such as the teacher: a decoder whose layers have their own weights.

use candle_core::Tensor;

use super::causal_lm::{CausalLm, LayerStacks, blocks, chain};
use super::config::TransformerConfig;
use super::embedding_and_head::EmbeddingAndHead;
use crate::autograd::{Tape, Weights};
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
        let tape = Tape::off();
        let table = self.embedding_and_head.rope(0, ids.dim(1)?);
        let embedded = self.embedding_and_head.embed(&tape, ids)?;
        let layers = &self.layers[..layers.min(self.layers.len())];
        let states = chain(&tape, layers, &embedded, &table)?;
        Ok(std::iter::once(&embedded).chain(&states).map(|state| state.tensor().clone()).collect())
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
}
