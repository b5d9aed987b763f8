//! What do teacher and student share?

use candle_core::{Device, Tensor};

use super::config::{RopeScaling, TransformerConfig};
use super::looped_config::LoopedConfig;
use super::repetition_input::RepetitionInput;
use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::nn::linear::Linear;
use crate::nn::norm::rms_norm;
use crate::nn::{Block, BlockShape, LayerCache, RopeTable};

/// Keys and values of the tokens read so far: one entry for each application of a layer.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    tokens: usize,
}

impl KvCache {
    /// An empty cache for `applications` of a layer.
    pub(crate) fn new(applications: usize) -> Self {
        Self { layers: vec![None; applications], tokens: 0 }
    }

    /// Tokens read so far.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Positions of the next `tokens` and the caches to fill, in order of application.
    pub(crate) fn advance(&mut self, tokens: usize) -> (usize, &mut [LayerCache]) {
        let start = self.tokens;
        self.tokens += tokens;
        (start, &mut self.layers)
    }
}

/// What stands around the layers: embedding, last norm, head, and where tokens stand.
#[derive(Debug, Clone)]
pub struct EmbeddingAndHead {
    pub(crate) embed: Weight,
    pub(crate) norm: Weight,
    head: Weight,
    norm_eps: f64,
    pub(crate) inverse_frequencies: Vec<f32>,
}

impl EmbeddingAndHead {
    /// Takes `embed.weight`, `norm.weight` and, unless it is tied, `head.weight`.
    ///
    /// # Errors
    /// A weight is missing.
    pub fn new(config: &TransformerConfig, weights: &dyn Weights) -> Result<Self> {
        let embed = weights.weight("embed.weight")?;
        let head = if config.tied_head { embed.clone() } else { weights.weight("head.weight")? };
        Ok(Self {
            embed,
            norm: weights.weight("norm.weight")?,
            head,
            norm_eps: config.norm_eps,
            inverse_frequencies: inverse_frequencies(config),
        })
    }

    /// (B, T) u32 to (B, T, D).
    ///
    /// # Errors
    /// An id is past the vocabulary.
    pub fn embed(&self, tape: &Tape, ids: &Tensor) -> Result<Value> {
        crate::nn::embedding::embedding(tape, &self.embed, ids)
    }

    /// The rotations of `tokens` positions from `start`.
    #[must_use]
    pub fn rope(&self, start: usize, tokens: usize) -> RopeTable {
        RopeTable::new(&self.inverse_frequencies, start, tokens)
    }

    /// The last norm: (B, T, D).
    ///
    /// # Errors
    /// The width differs.
    pub fn normed(&self, tape: &Tape, state: &Value) -> Result<Value> {
        rms_norm(tape, state, &self.norm, self.norm_eps)
    }

    /// The head, (V, D).
    #[must_use]
    pub fn head(&self) -> &Weight {
        &self.head
    }

    /// A state before the last norm, (B, T, D), to logits, (B, T, V).
    ///
    /// # Errors
    /// The width differs.
    pub fn logits(&self, state: &Tensor) -> Result<Tensor> {
        let tape = Tape::off();
        let normed = self.normed(&tape, &Value::constant(state.clone()))?;
        let head = Linear { weight: self.head.clone(), bias: None, low_rank: None };
        Ok(head.forward(&tape, &normed)?.tensor().clone())
    }

    /// Where the weights live.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.embed.tensor().device()
    }
}

/// The layers of a model, in order of application; an unshared stack is all prelude.
#[derive(Debug, Clone)]
pub struct LayerStacks<'a> {
    /// Before the core.
    pub prelude: &'a [Block],
    /// The core with the relaxation of each repetition, (N).
    pub core: Vec<&'a [Block]>,
    /// After the core.
    pub coda: &'a [Block],
}

/// A causal language model, deep or factored.
pub trait CausalLm {
    /// The decoder it is, or was made from.
    fn base(&self) -> &TransformerConfig;

    /// What stands around its layers.
    fn embedding_and_head(&self) -> &EmbeddingAndHead;

    /// How it is factored; none for an unshared stack.
    fn factorization(&self) -> Option<&LoopedConfig> {
        None
    }

    /// Repetitions of the core it was trained for; 1 for an unshared stack.
    fn repetitions(&self) -> usize;

    /// The layers it is made of.
    fn layer_stacks(&self) -> LayerStacks<'_>;

    /// What a repetition of the core starts from; none where that is the state after the one before
    /// it and nothing else.
    fn repetition_input(&self) -> Option<&RepetitionInput> {
        None
    }

    /// A state of the core, (B, T, D), after the layers that follow the core: itself when there are
    /// none.
    ///
    /// # Errors
    /// The shapes do not fit.
    fn after_core(&self, _tape: &Tape, state: &Value) -> Result<Value> {
        Ok(state.clone())
    }

    /// The residual stream after the embedding and after every application of a layer, each
    /// (B, T, D); `repetitions` means nothing to an unshared stack.
    ///
    /// # Errors
    /// An id is past the vocabulary, or the device fails.
    fn states(&self, tape: &Tape, ids: &Tensor, repetitions: usize) -> Result<Vec<Value>>;

    /// An empty cache for decoding at `repetitions`.
    fn new_cache(&self, repetitions: usize) -> KvCache;

    /// The last state (B, T, D) of new tokens (B, T) after those in `cache`.
    ///
    /// # Errors
    /// As [`CausalLm::states`].
    fn forward_cached(
        &self,
        ids: &Tensor,
        cache: &mut KvCache,
        repetitions: usize,
    ) -> Result<Tensor>;
}

/// The shape of layer `layer` of the published stack.
pub(crate) fn block_shape(config: &TransformerConfig, layer: usize) -> BlockShape {
    BlockShape {
        head_width: config.head_width,
        norm_eps: config.norm_eps,
        window: config.window(layer),
    }
}

/// One block for every prefix, in order.
pub(crate) fn blocks(
    config: &TransformerConfig,
    weights: &dyn Weights,
    prefixes: impl Iterator<Item = (String, usize)>,
    repetition: Option<usize>,
) -> Result<Vec<Block>> {
    prefixes
        .map(|(prefix, layer)| Block::new(weights, &prefix, block_shape(config, layer), repetition))
        .collect()
}

/// 1 / theta^(2i / head width), stretched as the configuration says, (head width / 2).
// f32 throughout, as the published models computed them.
fn inverse_frequencies(config: &TransformerConfig) -> Vec<f32> {
    let width = config.head_width;
    let plain = (0..width / 2)
        .map(|i| 1.0 / (config.rope_theta as f32).powf((2 * i) as f32 / width as f32));
    let turn = 2.0 * std::f32::consts::PI;
    plain
        .map(|frequency| match &config.rope_scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / *factor as f32,
            // Llama 3.1: blend between f / factor and f by how often a wave fits the old context.
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_positions,
            } => {
                let (low, high) = (*low_freq_factor as f32, *high_freq_factor as f32);
                let fits = *original_positions as f32 * frequency / turn;
                let slowed = frequency / *factor as f32;
                if fits < low {
                    slowed
                } else if fits > high {
                    frequency
                } else {
                    let smooth = (fits - low) / (high - low);
                    (1.0 - smooth) * slowed + smooth * frequency
                }
            }
        })
        .collect()
}
