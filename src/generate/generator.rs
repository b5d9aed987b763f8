//! How does a model write, one token at a time?

use candle_core::{DType, Device, Tensor};
use candle_transformers::generation::LogitsProcessor;

use super::config::GenerateConfig;
use super::stream::Stream;
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{CausalLm, KvCache};

/// Why a continuation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model ended the text.
    Model,
    /// A text to stop at came.
    Stop,
    /// `max_tokens` were written.
    MaxTokens,
    /// The model was never trained on longer texts.
    MaxPositions,
    /// The listener had enough.
    Listener,
}

/// What a model wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// The text after the prompt.
    pub text: String,
    /// Its tokens, those of a text to stop at included.
    pub tokens: Vec<u32>,
    /// Why it is over.
    pub end: End,
}

/// A model, its tokenizer and a way to choose.
pub struct Generator<'a> {
    model: &'a dyn CausalLm,
    tokenizer: &'a Tokenizer,
    config: &'a GenerateConfig,
}

impl<'a> Generator<'a> {
    /// Puts them together.
    ///
    /// # Errors
    /// The configuration draws nothing.
    pub fn new(
        model: &'a dyn CausalLm,
        tokenizer: &'a Tokenizer,
        config: &'a GenerateConfig,
    ) -> Result<Self> {
        config.validate()?;
        Ok(Self { model, tokenizer, config })
    }

    /// Continues `prompt`. `listen` is given every piece of text as soon as it is certain, whole
    /// characters only, and says whether to go on.
    ///
    /// # Errors
    /// The prompt is empty or too long for the model, or a device fails.
    pub fn generate(
        &self,
        prompt: &str,
        listen: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Continuation> {
        let prompt = self.prompt_ids(prompt)?;
        let mut stream = Stream::new(self.tokenizer, &prompt, &self.config.stop);
        let mut text = String::new();
        let mut tell = |piece: String| {
            let goes_on = piece.is_empty() || listen(&piece);
            text.push_str(&piece);
            goes_on
        };
        let mut ended = None;
        let (tokens, end) = self.continue_ids(&prompt, &mut |id| {
            let (piece, stopped) = stream.push(id)?;
            let goes_on = tell(piece);
            ended = if stopped { Some(End::Stop) } else { (!goes_on).then_some(End::Listener) };
            Ok(ended.is_none())
        })?;
        if ended.is_none() {
            tell(stream.finish()?);
        }
        Ok(Continuation { text, tokens, end: ended.unwrap_or(end) })
    }

    /// The ids of a prompt, opened as the model expects it. An empty prompt is the opening alone.
    fn prompt_ids(&self, prompt: &str) -> Result<Vec<u32>> {
        let special = self.tokenizer.special();
        let mut ids = self.tokenizer.encode(prompt)?;
        let opens = |bos: &u32| ids.first() != Some(bos) && (special.add_bos || ids.is_empty());
        if let Some(bos) = special.bos.filter(opens) {
            ids.insert(0, bos);
        }
        if ids.is_empty() {
            return Err(Error::input("the prompt is empty, and no token opens a text here")
                .hint("give the model something to continue"));
        }
        Ok(ids)
    }

    /// Continues ids with ids; `listen` is given every one of them, and says whether to go on.
    ///
    /// # Errors
    /// There are no ids, too many for the model, or one is past its vocabulary; or a device fails.
    pub fn continue_ids(
        &self,
        prompt: &[u32],
        listen: &mut dyn FnMut(u32) -> Result<bool>,
    ) -> Result<(Vec<u32>, End)> {
        let base = self.model.base();
        if prompt.is_empty() || prompt.len() > base.max_positions {
            let message = format!("the prompt is {} tokens", prompt.len());
            return Err(Error::input(format!(
                "{message}, this model reads 1 to {}",
                base.max_positions
            ))
            .hint("shorten the prompt"));
        }
        let repetitions = self.config.repetitions.unwrap_or(self.model.repetitions());
        let mut cache = self.model.new_cache(repetitions);
        let mut choose = LogitsProcessor::from_sampling(self.config.seed, self.config.sampling());
        let mut tokens: Vec<u32> = Vec::new();
        while tokens.len() < self.config.max_tokens {
            let read = tokens.last().map_or(prompt, std::slice::from_ref);
            let logits = self.next_logits(read, &mut cache, repetitions)?;
            let id = choose.sample(&logits)?;
            if self.ends(id) {
                return Ok((tokens, End::Model));
            }
            tokens.push(id);
            if !listen(id)? {
                return Ok((tokens, End::Listener));
            }
            // The token just chosen would be read at this position.
            if cache.tokens() >= base.max_positions {
                return Ok((tokens, End::MaxPositions));
            }
        }
        Ok((tokens, End::MaxTokens))
    }

    fn ends(&self, id: u32) -> bool {
        self.tokenizer.special().eos.contains(&id) || self.model.base().eos_tokens.contains(&id)
    }

    /// Logits of the token after `read`, (V), f32 on the CPU.
    fn next_logits(&self, read: &[u32], cache: &mut KvCache, repetitions: usize) -> Result<Tensor> {
        let frame = self.model.frame();
        let ids = Tensor::new(read, frame.device())?.unsqueeze(0)?;
        let state = self.model.forward_cached(&ids, cache, repetitions)?;
        let last = state.narrow(1, read.len() - 1, 1)?.contiguous()?;
        let logits = frame.logits(&last)?.flatten_all()?;
        let logits = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        let highest = logits.max(0)?.to_scalar::<f32>()?;
        if !highest.is_finite() {
            return Err(Error::input(format!("the model's highest logit is {highest}")).hint(
                "its weights are damaged or its training diverged; at far more repetitions \
                       than trained, use fewer",
            ));
        }
        Ok(logits)
    }
}
