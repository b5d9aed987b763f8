//! Where do the logits of the next token come from?

use candle_core::{DType, Device, Tensor};

use crate::decode::{CacheSharing, DecodeCache, Decoder, Read, ReadDepth};
use crate::error::{Error, Result};
use crate::halting::{Gate, HaltingPolicy};
use crate::kernels::quantized::WeightType;
use crate::model::{CausalLm, KvCache};

/// When a token has been through the core often enough.
pub struct Stopping {
    /// When it stops.
    pub policy: Box<dyn HaltingPolicy>,
    /// The policy's gate, if it has one.
    pub gate: Option<Gate>,
}

/// Few repetitions draft, all of them verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speculation {
    /// Repetitions of a draft.
    pub repetitions: usize,
    /// Tokens of a draft.
    pub tokens: usize,
}

/// How a model is read.
pub struct ReadConfig {
    /// The type its weights wait in.
    pub stored_as: WeightType,
    /// What tokens read of others that stopped before.
    pub sharing: CacheSharing,
    /// When a token stops; none: at a fixed depth.
    pub stopping: Option<Stopping>,
    /// Whether drafts are made.
    pub speculation: Option<Speculation>,
}

impl Default for ReadConfig {
    fn default() -> Self {
        let (stored_as, sharing) = (WeightType::default(), CacheSharing::default());
        Self { stored_as, sharing, stopping: None, speculation: None }
    }
}

/// A model that reads.
pub(super) enum Reader<'a> {
    /// On the CPU: every token at its own depth.
    Own(Box<Decoder>),
    /// Elsewhere: all tokens at one depth, text by text.
    Composed(&'a dyn CausalLm),
}

/// What was read of some texts.
pub(super) struct Memory {
    kept: Kept,
    /// Times a token went through the core.
    pub(super) computed: usize,
}

enum Kept {
    Own(DecodeCache),
    Composed(Vec<KvCache>),
}

/// The logits of the next token, (V), and the repetitions that led to them.
pub(super) struct Said {
    pub(super) logits: Vec<f32>,
    pub(super) repetitions: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(model: &'a dyn CausalLm, config: &ReadConfig) -> Result<Self> {
        if model.embedding_and_head().device().is_cpu() {
            return Ok(Self::Own(Box::new(Decoder::new(model, config.stored_as)?)));
        }
        let plain = config.stopping.is_none()
            && config.speculation.is_none()
            && config.stored_as == WeightType::F32;
        if !plain {
            return Err(Error::input(
                "policies, budgets, drafts and small types of weights decode on the CPU only",
            )
            .hint("--device cpu"));
        }
        Ok(Self::Composed(model))
    }

    /// For so many texts, nothing read yet.
    pub(super) fn memory(
        &self,
        texts: usize,
        depth: ReadDepth<'_>,
        sharing: CacheSharing,
    ) -> Memory {
        let kept = match self {
            Self::Own(decoder) => Kept::Own(decoder.new_cache(texts, sharing)),
            Self::Composed(model) => {
                Kept::Composed((0..texts).map(|_| model.new_cache(depth.most)).collect())
            }
        };
        Memory { kept, computed: 0 }
    }

    /// Reads new tokens of some texts, and gives what is said after the last `last` of each.
    pub(super) fn read(
        &self,
        new: &[(usize, &[u32])],
        memory: &mut Memory,
        depth: ReadDepth<'_>,
        last: usize,
    ) -> Result<Vec<Said>> {
        match (self, &mut memory.kept) {
            (Self::Own(decoder), Kept::Own(cache)) => {
                let read = decoder.read(new, cache, depth)?;
                memory.computed += read.computed;
                let (width, mut end, mut rows) = (decoder.base().width, 0, Read::default());
                for (_, ids) in new {
                    end += ids.len();
                    let start = end - last.min(ids.len());
                    rows.normed.extend_from_slice(&read.normed[start * width..end * width]);
                    rows.repetitions.extend_from_slice(&read.repetitions[start..end]);
                }
                said(decoder, &rows)
            }
            (Self::Composed(model), Kept::Composed(caches)) => {
                let read = |(text, ids): &(usize, &[u32])| {
                    memory.computed += ids.len() * depth.most;
                    let logits = next_logits(*model, ids, &mut caches[*text], depth.most)?;
                    Ok(Said { logits, repetitions: depth.most })
                };
                new.iter().map(read).collect()
            }
            _ => Err(Error::internal("a memory of another reader")),
        }
    }

    /// Takes the tokens of the only text from position `first` on through `repetitions` in all, with
    /// the tokens `new` after them, and gives what is said after each.
    pub(super) fn deepen(
        &self,
        first: usize,
        new: &[u32],
        memory: &mut Memory,
        repetitions: usize,
    ) -> Result<Vec<Said>> {
        let (Self::Own(decoder), Kept::Own(cache)) = (self, &mut memory.kept) else {
            return Err(Error::internal("drafts on a device that makes none"));
        };
        let read = decoder.deepen((0, first), new, cache, repetitions)?;
        memory.computed += read.computed;
        said(decoder, &read)
    }
}

/// What every token that was read says.
fn said(decoder: &Decoder, read: &Read) -> Result<Vec<Said>> {
    let logits = decoder.logits(&read.normed)?;
    let vocabulary = logits.len() / read.repetitions.len().max(1);
    let each = logits.chunks_exact(vocabulary.max(1)).zip(&read.repetitions);
    Ok(each.map(|(l, &repetitions)| Said { logits: l.to_vec(), repetitions }).collect())
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
    /// Forgets all tokens of a text but the first `tokens`.
    pub(super) fn truncate(&mut self, text: usize, tokens: usize) {
        if let Kept::Own(cache) = &mut self.kept {
            cache.truncate(text, tokens);
        }
    }
}
