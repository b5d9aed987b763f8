//! Readers: where the logits of the next token come from, on the CPU and on other devices.

use candle_core::{DType, Device, Tensor};

use crate::decode::{CacheSharing, DecodeCache, Decoder, Read, ReadDepth};
use crate::error::{Error, Result};
use crate::halting::{Budget, Calibration, Gate, HaltingPolicy};
use crate::kernels::WeightType;
use crate::model::{CausalLm, KvCache};

/// The halting policy that decides when a token stops.
pub struct Stopping {
    /// The policy.
    pub policy: Box<dyn HaltingPolicy>,
    /// The gate of the policy, if it has one.
    pub gate: Option<Gate>,
}

impl Stopping {
    /// The policy of a calibration and its gate, at the threshold that keeps `budget`; at the
    /// calibrated threshold without one.
    ///
    /// # Errors
    /// Every threshold takes more than the budget.
    pub fn calibrated(calibration: &Calibration, budget: Option<Budget>) -> Result<Self> {
        let (policy, _) = calibration.policy(budget)?;
        Ok(Self { policy, gate: calibration.gate.clone() })
    }
}

/// Speculative decoding by depth: few repetitions draft tokens, all repetitions verify them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speculation {
    /// Repetitions with which tokens are drafted.
    pub repetitions: usize,
    /// Tokens of a draft.
    pub tokens: usize,
}

/// How tokens are read: weight type, key and value sharing, halting and drafts.
pub struct ReadConfig {
    /// The type in which weights are stored.
    pub weight_type: WeightType,
    /// The keys and values that tokens read of others that stopped earlier.
    pub sharing: CacheSharing,
    /// When a token stops; at a fixed depth when absent.
    pub stopping: Option<Stopping>,
    /// Speculative decoding; none when absent.
    pub speculation: Option<Speculation>,
}

impl Default for ReadConfig {
    fn default() -> Self {
        let (weight_type, sharing) = (WeightType::default(), CacheSharing::default());
        Self { weight_type, sharing, stopping: None, speculation: None }
    }
}

/// A model that reads tokens.
pub(super) enum Reader<'a> {
    /// The decoder of the CPU: every token at its own depth.
    Own(Box<Decoder>),
    /// The model itself on other devices: all tokens at one depth, sequence by sequence.
    Composed(&'a dyn CausalLm),
}

/// Keys and values of some sequences.
pub(super) struct Memory {
    cache: Cache,
    /// Applications of the core to a token.
    pub(super) computed: usize,
}

enum Cache {
    Own(DecodeCache),
    Composed(Vec<KvCache>),
}

/// The logits of the next token, (V), and the repetitions after which they were read.
pub(super) struct Output {
    pub(super) logits: Vec<f32>,
    pub(super) repetitions: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(model: &'a dyn CausalLm, config: &ReadConfig) -> Result<Self> {
        if model.embedding_and_head().device().is_cpu() {
            return Ok(Self::Own(Box::new(Decoder::new(model, config.weight_type)?)));
        }
        let plain = config.stopping.is_none()
            && config.speculation.is_none()
            && config.weight_type == WeightType::F32;
        if !plain {
            return Err(Error::input(
                "policies, budgets, drafts and quantized weights decode on the CPU only",
            )
            .hint("--device cpu"));
        }
        Ok(Self::Composed(model))
    }

    /// An empty memory for `texts` sequences.
    pub(super) fn memory(
        &self,
        texts: usize,
        depth: ReadDepth<'_>,
        sharing: CacheSharing,
    ) -> Memory {
        let cache = match self {
            Self::Own(decoder) => Cache::Own(decoder.new_cache(texts, sharing)),
            Self::Composed(model) => {
                Cache::Composed((0..texts).map(|_| model.new_cache(depth.most)).collect())
            }
        };
        Memory { cache, computed: 0 }
    }

    /// Reads new tokens of some sequences; returns the outputs at the last `last` tokens of each.
    pub(super) fn read(
        &self,
        new: &[(usize, &[u32])],
        memory: &mut Memory,
        depth: ReadDepth<'_>,
        last: usize,
    ) -> Result<Vec<Output>> {
        match (self, &mut memory.cache) {
            (Self::Own(decoder), Cache::Own(cache)) => {
                let read = decoder.read(new, cache, depth)?;
                memory.computed += read.computed;
                let (width, mut end, mut rows) = (decoder.base().width, 0, Read::default());
                for (_, ids) in new {
                    end += ids.len();
                    let start = end - last.min(ids.len());
                    rows.normed.extend_from_slice(&read.normed[start * width..end * width]);
                    rows.repetitions.extend_from_slice(&read.repetitions[start..end]);
                }
                outputs(decoder, &rows)
            }
            (Self::Composed(model), Cache::Composed(caches)) => {
                let read = |(text, ids): &(usize, &[u32])| {
                    memory.computed += ids.len() * depth.most;
                    let logits = next_logits(*model, ids, &mut caches[*text], depth.most)?;
                    Ok(Output { logits, repetitions: depth.most })
                };
                new.iter().map(read).collect()
            }
            _ => Err(Error::internal("a memory that belongs to another reader")),
        }
    }

    /// Deepens the tokens of the only sequence from position `first` on to `repetitions`, together
    /// with the tokens `new` after them; returns the output at each.
    pub(super) fn deepen(
        &self,
        first: usize,
        new: &[u32],
        memory: &mut Memory,
        repetitions: usize,
    ) -> Result<Vec<Output>> {
        let (Self::Own(decoder), Cache::Own(cache)) = (self, &mut memory.cache) else {
            return Err(Error::internal("drafts on a device without a decoder"));
        };
        let read = decoder.deepen((0, first), new, cache, repetitions)?;
        memory.computed += read.computed;
        outputs(decoder, &read)
    }
}

/// The output at every token that was read.
fn outputs(decoder: &Decoder, read: &Read) -> Result<Vec<Output>> {
    let logits = decoder.logits(&read.normed)?;
    let vocabulary = logits.len() / read.repetitions.len().max(1);
    let rows = logits.chunks_exact(vocabulary.max(1)).zip(&read.repetitions);
    Ok(rows.map(|(row, &repetitions)| Output { logits: row.to_vec(), repetitions }).collect())
}

/// Logits of the token after `ids`, (V).
fn next_logits(
    model: &dyn CausalLm,
    ids: &[u32],
    cache: &mut KvCache,
    repetitions: usize,
) -> Result<Vec<f32>> {
    let embedding_and_head = model.embedding_and_head();
    let read = Tensor::new(ids, embedding_and_head.device())?.unsqueeze(0)?;
    let state = model.forward_cached(&read, cache, repetitions)?;
    let last = state.narrow(1, ids.len() - 1, 1)?.contiguous()?;
    let logits = embedding_and_head.logits(&last)?.flatten_all()?;
    Ok(logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1()?)
}

impl Memory {
    /// Discards all tokens of a sequence but the first `tokens`.
    pub(super) fn truncate(&mut self, text: usize, tokens: usize) {
        if let Cache::Own(cache) = &mut self.cache {
            cache.truncate(text, tokens);
        }
    }
}
