//! How does a model read new tokens, each as deeply as it needs?

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::attention::normed;
use super::cache::{CacheSharing, DecodeCache};
use super::depth::ReadDepth;
use super::layer::{Here, Layer, Store, numbers, on_host};
use super::pass::{Pass, Place};
use super::running::{Running, rows};
use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::quantized::{QuantizedMatrix, WeightType};
use crate::model::{CausalLm, LayerStacks, RepetitionInput, TransformerConfig};
use crate::nn::Block;

/// What was read, token by token, text after text.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// States after coda and last norm, (tokens, D).
    pub normed: Vec<f32>,
    /// Repetitions of each token.
    pub repetitions: Vec<usize>,
    /// Repetitions that were computed, those of earlier tokens that were taken further included.
    pub computed: usize,
    /// Times that coda and head were computed only to decide whether a token stops.
    pub probes: usize,
}

/// A model made ready to decode on the CPU, its matrices stored in a type of choice.
pub struct Decoder {
    config: TransformerConfig,
    embed: Arc<QuantizedMatrix>,
    head: Arc<QuantizedMatrix>,
    norm: Vec<f32>,
    inverse_frequencies: Vec<f32>,
    prelude: Vec<Layer>,
    /// By repetition.
    core: Vec<Vec<Layer>>,
    coda: Vec<Layer>,
    /// Puts the prelude's state into the loop.
    input: Option<RepetitionInput>,
    /// Where the loop computes, and in which type.
    place: (Device, DType),
    bytes: usize,
}

impl Decoder {
    /// Of any model.
    ///
    /// # Errors
    /// A weight is no matrix where one is expected.
    pub fn new(model: &dyn CausalLm, stored_as: WeightType) -> Result<Self> {
        let LayerStacks { prelude, core, coda } = model.layer_stacks();
        let (embedding_and_head, mut store) = (model.embedding_and_head(), Store::new(stored_as));
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
            norm: numbers(&embedding_and_head.norm)?,
            inverse_frequencies: embedding_and_head.inverse_frequencies.clone(),
            prelude,
            core,
            coda,
            input: model.repetition_input().cloned(),
            place: (embedding_and_head.device().clone(), embedding_and_head.embed.tensor().dtype()),
            bytes: store.bytes(),
        })
    }

    /// The decoder it is, or was made from.
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

    /// Of all matrices, each counted once.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// An empty cache for so many texts.
    #[must_use]
    pub fn new_cache(&self, texts: usize, sharing: CacheSharing) -> DecodeCache {
        let core = self.core.first().map_or(0, Vec::len);
        DecodeCache::new(texts, self.prelude.len() + core + self.coda.len(), sharing)
    }

    /// Reads new tokens after those in `cache`: `new` holds numbers of texts, rising, and what
    /// follows in each. A policy that looks at outputs, and a cache that keeps a window, make the
    /// tokens of a text come one after the other.
    ///
    /// # Errors
    /// There is no repetition, or an id is past the vocabulary.
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
            return self.pass(new, cache, depth);
        }
        let width = self.config.width;
        let first: Vec<usize> = new
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
        for at in 0..longest {
            let turn: Vec<usize> = (0..new.len()).filter(|&text| at < new[text].1.len()).collect();
            let one: Vec<(usize, &[u32])> =
                turn.iter().map(|&text| (new[text].0, &new[text].1[at..=at])).collect();
            let read = self.pass(&one, cache, depth)?;
            all.probes += read.probes;
            all.computed += read.computed;
            for (i, &text) in turn.iter().enumerate() {
                let to = first[text] + at;
                all.repetitions[to] = read.repetitions[i];
                all.normed[to * width..(to + 1) * width]
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

    /// Takes the tokens of `text` from position `first` on, which stopped before, through
    /// `repetitions` in all, together with the tokens `new` after them, at least one. What is read
    /// is what it were had all of them gone that deep at once, but the repetitions they had are not
    /// computed anew.
    ///
    /// # Errors
    /// The cache keeps no states to go on from, as [`CacheSharing::CatchUp`] does, or as
    /// [`Self::read`].
    pub fn deepen(
        &self,
        (text, first): (usize, usize),
        new: &[u32],
        cache: &mut DecodeCache,
        repetitions: usize,
    ) -> Result<Read> {
        if cache.sharing != CacheSharing::CatchUp || new.is_empty() {
            return Err(Error::internal("nothing is new, or there are no states to go on from"));
        }
        let before = cache.from(text, first);
        let (places, start) = self.enter(&[(text, new)], cache)?;
        let pass = Pass::new([before.places, places].concat(), &self.inverse_frequencies);
        let depth = ReadDepth::fixed(repetitions);
        let state = [before.states, start.clone()].concat();
        let start = [before.starts, start].concat();
        self.finish(Running::new(start, state, self.config.width, depth), &pass, cache, depth)
    }

    fn pass(
        &self,
        new: &[(usize, &[u32])],
        cache: &mut DecodeCache,
        depth: ReadDepth<'_>,
    ) -> Result<Read> {
        let (places, start) = self.enter(new, cache)?;
        let pass = Pass::new(places, &self.inverse_frequencies);
        let running = Running::new(start.clone(), start, self.config.width, depth);
        self.finish(running, &pass, cache, depth)
    }

    /// New tokens' places, and their states after the prelude, (tokens, D).
    fn enter(
        &self,
        new: &[(usize, &[u32])],
        cache: &mut DecodeCache,
    ) -> Result<(Vec<Place>, Vec<f32>)> {
        let width = self.config.width;
        let mut places = Vec::new();
        let mut x = Vec::new();
        let vocabulary = self.embed.out();
        let all_ids = new.iter().flat_map(|(_, ids)| ids.iter());
        if let Some(id) = all_ids.copied().find(|&id| id as usize >= vocabulary) {
            return Err(Error::input(format!("token {id} is past the vocabulary of {vocabulary}"))
                .hint("is the tokenizer the one this model was trained with?"));
        }
        for &(text, ids) in new {
            for &id in ids {
                places.push(Place { text, position: cache.tokens(text) });
                cache.texts[text].repetitions.push(usize::from(!self.is_looped()));
                x.resize(x.len() + width, 0.0);
                let start = x.len() - width;
                self.embed.row(id as usize, &mut x[start..])?;
            }
        }
        let pass = Pass::new(places, &self.inverse_frequencies);
        let all: Vec<usize> = (0..pass.places.len()).collect();
        Self::through(&self.prelude, 0, None, &mut x, &all, &pass, cache)?;
        Ok((pass.places, x))
    }

    /// Core, coda and last norm.
    fn finish(
        &self,
        running: Running<'_>,
        pass: &Pass,
        cache: &mut DecodeCache,
        depth: ReadDepth<'_>,
    ) -> Result<Read> {
        let all: Vec<usize> = (0..pass.places.len()).collect();
        let mut read = Read { repetitions: vec![1; all.len()], ..Read::default() };
        let mut x = if self.is_looped() {
            self.repeat(running, pass, cache, depth, &mut read)?
        } else {
            running.finish()
        };
        if read.normed.is_empty() {
            self.coda(&mut x, &all, pass, cache)?;
            read.normed = normed(&x, &self.norm, self.config.norm_eps as f32);
        }
        Ok(read)
    }

    /// The core, until every token has stopped: the state each stopped with, (tokens, D). When
    /// outputs were looked at, what coda and norm make of it is in `read` already.
    fn repeat(
        &self,
        mut running: Running<'_>,
        pass: &Pass,
        cache: &mut DecodeCache,
        depth: ReadDepth<'_>,
        read: &mut Read,
    ) -> Result<Vec<f32>> {
        let width = self.config.width;
        let first = self.prelude.len();
        let mut open: Vec<usize> = (0..pass.places.len()).collect();
        if depth.reads_output() {
            read.normed = vec![0.0; running.state.len()];
        }
        cache.keep(&pass.places, &running.start, 0);
        for repetition in 1..=depth.most {
            let is_next = |token: &usize| cache.computed(pass.places[*token]) < repetition;
            let active: Vec<usize> = open.iter().copied().filter(is_next).collect();
            let asking: Vec<Place> = active.iter().map(|&token| pass.places[token]).collect();
            let late = cache.lagging(&asking, repetition, width);
            let asked = asking.len() * width;
            let together = Pass::new([asking, late.places].concat(), &self.inverse_frequencies);
            let start = [rows(&running.start, width, &active), late.starts].concat();
            let x = [rows(&running.state, width, &active), late.states].concat();
            let mut x = self.inject(x, start, repetition)?;
            for place in &together.places {
                cache.texts[place.text].repetitions[place.position] = repetition;
            }
            let layers = &self.core[(repetition - 1).min(self.core.len() - 1)];
            let all: Vec<usize> = (0..together.places.len()).collect();
            Self::through(layers, first, Some(repetition), &mut x, &all, &together, cache)?;
            cache.keep(&together.places, &x, repetition);
            read.computed += together.places.len();
            x.truncate(asked);
            let mut said = Vec::new();
            if depth.reads_output() {
                let mut last = x.clone();
                self.coda(&mut last, &active, pass, cache)?;
                let last = normed(&last, &self.norm, self.config.norm_eps as f32);
                said = self.logits(&last)?;
                for (at, &token) in active.iter().enumerate() {
                    read.normed[token * width..(token + 1) * width]
                        .copy_from_slice(&last[at * width..(at + 1) * width]);
                }
                read.probes += active.len();
            }
            let stopped = running.after(repetition, &x, &active, &said);
            for &token in &stopped {
                read.repetitions[token] = repetition;
                let core = first..first + layers.len();
                cache.settle(pass.places[token].text, pass.places[token].position, core);
            }
            open.retain(|token| stopped.binary_search(token).is_err());
            if open.is_empty() {
                break;
            }
        }
        Ok(running.finish())
    }

    /// What is added of the prelude before a repetition, from 1: (tokens, D) each.
    fn inject(&self, x: Vec<f32>, start: Vec<f32>, repetition: usize) -> Result<Vec<f32>> {
        let Some(input) = &self.input else { return Ok(x) };
        let shape = (1, x.len() / self.config.width, self.config.width);
        let (device, dtype) = &self.place;
        let value = |values: Vec<f32>| {
            let tensor = Tensor::from_vec(values, shape, device)?;
            Ok::<_, Error>(Value::constant(tensor.to_dtype(*dtype)?))
        };
        let (x, start) = (value(x)?, value(start)?);
        let injected = input.of(&Tape::off(), &x, &start, repetition - 1)?;
        Ok(on_host(injected.tensor())?.flatten_all()?.to_vec1()?)
    }

    fn coda(
        &self,
        x: &mut [f32],
        active: &[usize],
        pass: &Pass,
        cache: &mut DecodeCache,
    ) -> Result<()> {
        let first = self.prelude.len() + self.core.first().map_or(0, Vec::len);
        Self::through(&self.coda, first, None, x, active, pass, cache)
    }

    fn through(
        layers: &[Layer],
        first: usize,
        repetition: Option<usize>,
        x: &mut [f32],
        active: &[usize],
        pass: &Pass,
        cache: &mut DecodeCache,
    ) -> Result<()> {
        for (at, layer) in layers.iter().enumerate() {
            layer.apply(x, active, Here { layer: first + at, repetition }, pass, cache)?;
        }
        Ok(())
    }
}
