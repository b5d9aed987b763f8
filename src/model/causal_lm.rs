//! The interface and the parts that teacher and student share: embedding, head, KV cache.

use candle_core::{Device, Tensor};

use super::config::{RopeScaling, TransformerConfig};
use super::looped_config::LoopedConfig;
use super::repetition_input::RepetitionInput;
use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::nn::{Block, BlockShape, LayerCache, Linear, RopeTable, rms_norm};

/// The KV cache: keys and values of the tokens read so far, by application of a layer.
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

/// The parts around the layers: embedding, final norm, head, and the frequencies of RoPE.
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

    /// Embeds ids: (B, T) u32 to (B, T, D).
    ///
    /// # Errors
    /// An id is past the vocabulary.
    pub fn embed(&self, tape: &Tape, ids: &Tensor) -> Result<Value> {
        crate::nn::embedding(tape, &self.embed, ids)
    }

    /// The rotations of `tokens` positions from `start`.
    #[must_use]
    pub fn rope(&self, start: usize, tokens: usize) -> RopeTable {
        RopeTable::new(&self.inverse_frequencies, start, tokens)
    }

    /// The final norm: (B, T, D) to (B, T, D).
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

    /// Logits, (B, T, V), of a state before the final norm, (B, T, D).
    ///
    /// # Errors
    /// The width differs.
    pub fn logits(&self, state: &Tensor) -> Result<Tensor> {
        let tape = Tape::off();
        let normed = self.normed(&tape, &Value::constant(state.clone()))?;
        let head = Linear { weight: self.head.clone(), bias: None, low_rank: None };
        Ok(head.forward(&tape, &normed)?.tensor().clone())
    }

    /// Device of the weights.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.embed.tensor().device()
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

    /// The coda applied to a state of the core, (B, T, D); the state itself without a coda.
    ///
    /// # Errors
    /// The width differs.
    fn after_core(&self, _tape: &Tape, state: &Value) -> Result<Value> {
        Ok(state.clone())
    }

    /// The residual stream after the embedding and after every application of a layer, each
    /// (B, T, D); an unshared stack ignores `repetitions`.
    ///
    /// # Errors
    /// An id is past the vocabulary, or the device fails.
    fn states(&self, tape: &Tape, ids: &Tensor, repetitions: usize) -> Result<Vec<Value>>;

    /// An empty cache for decoding at `repetitions`.
    fn new_cache(&self, repetitions: usize) -> KvCache;

    /// The last state, (B, T, D), of new tokens, (B, T), that follow those in `cache`.
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

/// The block shape of layer `layer` of the unshared stack.
pub(crate) fn block_shape(config: &TransformerConfig, layer: usize) -> BlockShape {
    BlockShape {
        head_width: config.head_width,
        norm_eps: config.norm_eps,
        window: config.window(layer),
    }
}

/// One block for every pair of a name prefix and a layer of the unshared stack, in order.
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

/// 1 / theta^(2i / head width), scaled as configured, (head width / 2). Su et al. 2021.
// f32 throughout, as in the published implementations.
fn inverse_frequencies(config: &TransformerConfig) -> Vec<f32> {
    let width = config.head_width;
    let plain = (0..width / 2)
        .map(|i| 1.0 / (config.rope_theta as f32).powf((2 * i) as f32 / width as f32));
    let period = 2.0 * std::f32::consts::PI;
    plain
        .map(|frequency| match &config.rope_scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / *factor as f32,
            // Llama 3.1: interpolate between f / factor and f by the periods in the original context.
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_positions,
            } => {
                let (low, high) = (*low_freq_factor as f32, *high_freq_factor as f32);
                let periods = *original_positions as f32 * frequency / period;
                let scaled = frequency / *factor as f32;
                if periods < low {
                    scaled
                } else if periods > high {
                    frequency
                } else {
                    let smooth = (periods - low) / (high - low);
                    (1.0 - smooth) * scaled + smooth * frequency
                }
            }
        })
        .collect()
}
