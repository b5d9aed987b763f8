//! The decoder: a model with quantized matrices, and its forward pass over new tokens of any number of
//! sequences, each token at its own depth.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::cache::{CacheSharing, DecodeCache};
use super::depth::ReadDepth;
use super::layer::{CacheKey, Layer};
use super::pass::{Pass, TokenPosition};
use super::token_states::{TokenStates, rows};
use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::host;
use crate::kernels::{QuantizedMatrix, WeightType};
use crate::model::{CausalLm, LayerStacks, RepetitionInput, TransformerConfig};
use crate::nn::{Block, MatrixStore, rms_norm_rows};

/// Results of reading new tokens, in the order of the sequences and their tokens.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// States after the coda and the final norm, (tokens, D).
    pub normed: Vec<f32>,
    /// Repetitions of each token.
    pub repetitions: Vec<usize>,
    /// Repetitions computed, including those of earlier tokens that were continued.
    pub computed: usize,
    /// Evaluations of coda and head for a halting decision alone.
    pub probes: usize,
}

/// A model prepared for decoding on the CPU, with its matrices in a [`WeightType`].
pub struct Decoder {
    config: TransformerConfig,
    embed: Arc<QuantizedMatrix>,
    head: Arc<QuantizedMatrix>,
    norm: Vec<f32>,
    inverse_frequencies: Vec<f32>,
    prelude: Vec<Layer>,
    /// Layers of the core by repetition.
    core: Vec<Vec<Layer>>,
    coda: Vec<Layer>,
    /// Norm and injection before a repetition; none for a plain chain.
    input: Option<RepetitionInput>,
    /// Device and type in which `input` is computed.
    input_placement: (Device, DType),
    bytes: usize,
}

impl Decoder {
    /// Prepares `model`, with its matrices stored as `weight_type`.
    ///
    /// # Errors
    /// A weight that should be a matrix is not.
    pub fn new(model: &dyn CausalLm, weight_type: WeightType) -> Result<Self> {
        let LayerStacks { prelude, core, coda } = model.layer_stacks();
        let embedding_and_head = model.embedding_and_head();
        let mut store = MatrixStore::new(weight_type);
        let mut layers = |blocks: &[Block]| {
            blocks.iter().map(|block| Layer::new(block, &mut store)).collect::<Result<Vec<_>>>()
        };
        let (prelude, coda) = (layers(prelude)?, layers(coda)?);
        let core = core.iter().map(|blocks| layers(blocks)).collect::<Result<_>>()?;
        let (embed, head) =
            (store.matrix(&embedding_and_head.embed)?, store.matrix(embedding_and_head.head())?);
        Ok(Self {
            config: model.base().clone(),
            embed,
            head,
            norm: embedding_and_head.norm.to_vec()?,
            inverse_frequencies: embedding_and_head.inverse_frequencies.clone(),
            prelude,
            core,
            coda,
            input: model.repetition_input().cloned(),
            input_placement: (
                embedding_and_head.device().clone(),
                embedding_and_head.embed.tensor().dtype(),
            ),
            bytes: store.bytes(),
        })
    }

    /// Configuration of the unshared stack it is, or was factored from.
    #[must_use]
    pub fn base(&self) -> &TransformerConfig {
        &self.config
    }

    /// Repetitions it was trained for; 1 for an unshared stack.
    #[must_use]
    pub fn repetitions(&self) -> usize {
        self.core.len().max(1)
    }

    /// Whether it has a core that is repeated.
    #[must_use]
    pub fn is_looped(&self) -> bool {
        !self.core.is_empty()
    }

    /// Bytes of all matrices, shared ones counted once.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// An empty cache for so many sequences.
    #[must_use]
    pub fn new_cache(&self, sequences: usize, sharing: CacheSharing) -> DecodeCache {
        let core = self.core.first().map_or(0, Vec::len);
        DecodeCache::new(sequences, self.prelude.len() + core + self.coda.len(), sharing)
    }

    /// Reads new tokens after those in `cache`: `new` holds indices of sequences, ascending, and the
    /// tokens that follow in each. With a policy that reads outputs, or a cache with a window, the
    /// tokens of a sequence are read one at a time.
    ///
    /// # Errors
    /// The depth is 0, or an id is past the vocabulary.
    pub fn read(
        &self,
        new: &[(usize, &[u32])],
        cache: &mut DecodeCache,
        depth: ReadDepth<'_>,
    ) -> Result<Read> {
        if depth.most == 0 {
            return Err(Error::input("0 repetitions decode nothing, expected 1 or more"));
        }
        let window = matches!(cache.sharing, CacheSharing::Window(_));
        if !self.is_looped() || !(window || depth.reads_output()) {
            return self.forward(new, cache, depth);
        }
        let width = self.config.width;
        let first_rows: Vec<usize> = new
            .iter()
            .scan(0, |sum, (_, ids)| Some(std::mem::replace(sum, *sum + ids.len())))
            .collect();
        let tokens: usize = new.iter().map(|(_, ids)| ids.len()).sum();
        let longest = new.iter().map(|(_, ids)| ids.len()).max().unwrap_or(0);
        let mut all = Read {
            normed: vec![0.0; tokens * width],
            repetitions: vec![0; tokens],
            ..Read::default()
        };
        for index in 0..longest {
            let remaining: Vec<usize> =
                (0..new.len()).filter(|&entry| index < new[entry].1.len()).collect();
            let next: Vec<(usize, &[u32])> = remaining
                .iter()
                .map(|&entry| (new[entry].0, &new[entry].1[index..=index]))
                .collect();
            let read = self.forward(&next, cache, depth)?;
            all.probes += read.probes;
            all.computed += read.computed;
            for (i, &entry) in remaining.iter().enumerate() {
                let row = first_rows[entry] + index;
                all.repetitions[row] = read.repetitions[i];
                all.normed[row * width..(row + 1) * width]
                    .copy_from_slice(&read.normed[i * width..(i + 1) * width]);
            }
        }
        Ok(all)
    }

    /// Logits of normed states: (tokens, D) to (tokens, V).
    ///
    /// # Errors
    /// The width differs.
    pub fn logits(&self, normed: &[f32]) -> Result<Vec<f32>> {
        let mut logits = vec![0.0; normed.len() / self.config.width * self.head.out()];
        self.head.product(normed, &mut logits)?;
        Ok(logits)
    }

    /// Continues the stopped tokens of `sequence` from position `first` on to `repetitions` in all,
    /// together with the tokens `new` after them, at least one. The result is that of reading all of
    /// them at that depth at once, but their earlier repetitions are not recomputed.
    ///
    /// # Errors
    /// `new` is empty, the sharing is not [`CacheSharing::CatchUp`], which stores the states to
    /// continue from, or as [`Self::read`].
    pub fn deepen(
        &self,
        (sequence, first): (usize, usize),
        new: &[u32],
        cache: &mut DecodeCache,
        repetitions: usize,
    ) -> Result<Read> {
        if cache.sharing != CacheSharing::CatchUp || new.is_empty() {
            return Err(Error::internal(
                "no new tokens, or a cache without states to continue from",
            ));
        }
        let stopped = cache.tokens_from(sequence, first);
        let (tokens, prelude_states) = self.prelude(&[(sequence, new)], cache)?;
        let pass = Pass::new([stopped.positions, tokens].concat(), &self.inverse_frequencies);
        let depth = ReadDepth::fixed(repetitions);
        let states = [stopped.states, prelude_states.clone()].concat();
        let prelude_states = [stopped.prelude_states, prelude_states].concat();
        let tokens = TokenStates::new(prelude_states, states, self.config.width, depth);
        self.core_and_coda(tokens, &pass, cache, depth)
    }

    fn forward(
        &self,
        new: &[(usize, &[u32])],
        cache: &mut DecodeCache,
        depth: ReadDepth<'_>,
    ) -> Result<Read> {
        let (tokens, states) = self.prelude(new, cache)?;
        let pass = Pass::new(tokens, &self.inverse_frequencies);
        let tokens = TokenStates::new(states.clone(), states, self.config.width, depth);
        self.core_and_coda(tokens, &pass, cache, depth)
    }

    /// Embeds new tokens and applies the prelude: their positions, and their states, (tokens, D).
    fn prelude(
        &self,
        new: &[(usize, &[u32])],
        cache: &mut DecodeCache,
    ) -> Result<(Vec<TokenPosition>, Vec<f32>)> {
        let width = self.config.width;
        let mut tokens = Vec::new();
        let mut x = Vec::new();
        let vocabulary = self.embed.out();
        let all_ids = new.iter().flat_map(|(_, ids)| ids.iter());
        if let Some(id) = all_ids.copied().find(|&id| id as usize >= vocabulary) {
            return Err(Error::input(format!("token {id} is past the vocabulary of {vocabulary}"))
                .hint("is the tokenizer the one this model was trained with?"));
        }
        for &(sequence, ids) in new {
            for &id in ids {
                tokens.push(TokenPosition { sequence, position: cache.tokens(sequence) });
                cache.sequences[sequence].repetitions.push(usize::from(!self.is_looped()));
                x.resize(x.len() + width, 0.0);
                let start = x.len() - width;
                self.embed.row(id as usize, &mut x[start..])?;
            }
        }
        let pass = Pass::new(tokens, &self.inverse_frequencies);
        let all: Vec<usize> = (0..pass.tokens.len()).collect();
        Self::apply_layers(&self.prelude, 0, None, &mut x, &all, &pass, cache)?;
        Ok((pass.tokens, x))
    }

    /// Applies the core, the coda and the final norm.
    fn core_and_coda(
        &self,
        tokens: TokenStates<'_>,
        pass: &Pass,
        cache: &mut DecodeCache,
        depth: ReadDepth<'_>,
    ) -> Result<Read> {
        let all: Vec<usize> = (0..pass.tokens.len()).collect();
        let mut read = Read { repetitions: vec![1; all.len()], ..Read::default() };
        let mut x = if self.is_looped() {
            self.repeat(tokens, pass, cache, depth, &mut read)?
        } else {
            tokens.into_states()
        };
        if read.normed.is_empty() {
            self.coda(&mut x, &all, pass, cache)?;
            read.normed = rms_norm_rows(&x, &self.norm, self.config.norm_eps as f32);
        }
        Ok(read)
    }

    /// Repeats the core until every token has stopped: the state each has stopped with, (tokens, D).
    /// If the policy reads outputs, the states after coda and final norm are in `read` already.
    fn repeat(
        &self,
        mut tokens: TokenStates<'_>,
        pass: &Pass,
        cache: &mut DecodeCache,
        depth: ReadDepth<'_>,
        read: &mut Read,
    ) -> Result<Vec<f32>> {
        let width = self.config.width;
        let first = self.prelude.len();
        let mut running: Vec<usize> = (0..pass.tokens.len()).collect();
        if depth.reads_output() {
            read.normed = vec![0.0; tokens.states.len()];
        }
        cache.store_states(&pass.tokens, &tokens.prelude_states, 0);
        for repetition in 1..=depth.most {
            let is_next = |token: &usize| cache.computed(pass.tokens[*token]) < repetition;
            let active: Vec<usize> = running.iter().copied().filter(is_next).collect();
            let readers: Vec<TokenPosition> =
                active.iter().map(|&token| pass.tokens[token]).collect();
            let stopped = cache.tokens_to_catch_up(&readers, repetition, width);
            let active_len = readers.len() * width;
            let batch = Pass::new([readers, stopped.positions].concat(), &self.inverse_frequencies);
            let prelude_states =
                [rows(&tokens.prelude_states, width, &active), stopped.prelude_states].concat();
            let x = [rows(&tokens.states, width, &active), stopped.states].concat();
            let mut x = self.inject(x, prelude_states, repetition)?;
            for token in &batch.tokens {
                cache.sequences[token.sequence].repetitions[token.position] = repetition;
            }
            let layers = &self.core[(repetition - 1).min(self.core.len() - 1)];
            let all: Vec<usize> = (0..batch.tokens.len()).collect();
            Self::apply_layers(layers, first, Some(repetition), &mut x, &all, &batch, cache)?;
            cache.store_states(&batch.tokens, &x, repetition);
            read.computed += batch.tokens.len();
            x.truncate(active_len);
            let mut logits = Vec::new();
            if depth.reads_output() {
                let mut last = x.clone();
                self.coda(&mut last, &active, pass, cache)?;
                let last = rms_norm_rows(&last, &self.norm, self.config.norm_eps as f32);
                logits = self.logits(&last)?;
                for (row, &token) in active.iter().enumerate() {
                    read.normed[token * width..(token + 1) * width]
                        .copy_from_slice(&last[row * width..(row + 1) * width]);
                }
                read.probes += active.len();
            }
            let stopped = tokens.advance(repetition, &x, &active, &logits);
            for &token in &stopped {
                read.repetitions[token] = repetition;
                let core = first..first + layers.len();
                let TokenPosition { sequence, position } = pass.tokens[token];
                cache.evict_stopped(sequence, position, core);
            }
            running.retain(|token| stopped.binary_search(token).is_err());
            if running.is_empty() {
                break;
            }
        }
        Ok(tokens.into_states())
    }

    /// The input of `repetition`, counted from 1, from the states and those after the prelude,
    /// (tokens, D) each.
    fn inject(&self, x: Vec<f32>, prelude_states: Vec<f32>, repetition: usize) -> Result<Vec<f32>> {
        let Some(input) = &self.input else { return Ok(x) };
        let shape = (1, x.len() / self.config.width, self.config.width);
        let (device, dtype) = &self.input_placement;
        let value = |values: Vec<f32>| {
            let tensor = Tensor::from_vec(values, shape, device)?;
            Ok::<_, Error>(Value::constant(tensor.to_dtype(*dtype)?))
        };
        let (x, prelude_states) = (value(x)?, value(prelude_states)?);
        let injected = input.forward(&Tape::off(), &x, &prelude_states, repetition - 1)?;
        Ok(host::to_host(injected.tensor())?.flatten_all()?.to_vec1()?)
    }

    fn coda(
        &self,
        x: &mut [f32],
        active: &[usize],
        pass: &Pass,
        cache: &mut DecodeCache,
    ) -> Result<()> {
        let first = self.prelude.len() + self.core.first().map_or(0, Vec::len);
        Self::apply_layers(&self.coda, first, None, x, active, pass, cache)
    }

    /// Applies `layers`, the first of which is layer `first` of the cache, to the states `x`,
    /// (tokens, D), of the tokens `active` of a pass.
    fn apply_layers(
        layers: &[Layer],
        first: usize,
        repetition: Option<usize>,
        x: &mut [f32],
        active: &[usize],
        pass: &Pass,
        cache: &mut DecodeCache,
    ) -> Result<()> {
        for (index, layer) in layers.iter().enumerate() {
            let key = CacheKey { layer: first + index, repetition };
            layer.apply(x, active, key, pass, cache)?;
        }
        Ok(())
    }
}
