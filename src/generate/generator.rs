//! The generator: it writes one token at a time, with or without speculative drafts.

use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::config::GenerateConfig;
use super::reader::{Memory, Output, ReadConfig, Reader, Speculation};
use super::sampling::Candidates;
use super::stream::Stream;
use crate::data::Tokenizer;
use crate::decode::{CacheSharing, ReadDepth};
use crate::error::{Error, Result};
use crate::model::CausalLm;

/// The reason why a continuation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model wrote an end-of-text token.
    Model,
    /// A stop string was written.
    Stop,
    /// `max_tokens` were written.
    MaxTokens,
    /// The context length of the model was reached.
    MaxPositions,
    /// The listener returned false.
    Listener,
}

/// A continuation of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// The text after the prompt.
    pub text: String,
    /// The tokens of the text, including those of a stop string.
    pub tokens: Vec<u32>,
    /// Repetitions of the core from which each token was predicted.
    pub repetitions: Vec<usize>,
    /// The reason why it ended.
    pub end: End,
    /// Seconds from the first token of the prompt to the last one written; shared by a batch.
    pub seconds: f64,
    /// Tokens that were drafted, and those of them that were accepted.
    pub drafted: [usize; 2],
    /// Applications of the core to a token, including those of the prompt and of rejected drafts;
    /// shared by a batch.
    pub computed: usize,
}

/// Tokens of a phrase in [`Continuation::repeated_phrases`].
const PHRASE: usize = 4;

impl Continuation {
    /// Share of the phrases of four tokens that occurred before in the text, 0..1: a measure of
    /// degenerate repetition.
    #[must_use]
    pub fn repeated_phrases(&self) -> f64 {
        let mut seen = std::collections::HashSet::new();
        let phrases = self.tokens.windows(PHRASE);
        let count = phrases.len().max(1);
        phrases.filter(|phrase| !seen.insert(*phrase)).count() as f64 / count as f64
    }
}

/// One sequence under way: its prompt and the tokens written so far.
struct Draft {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    repetitions: Vec<usize>,
    rng: ChaCha8Rng,
    drafted: [usize; 2],
    computed: usize,
    end: Option<End>,
}

impl Draft {
    /// Prompt and tokens together.
    fn all(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.tokens].concat()
    }
}

/// Called with the number of a sequence and each token written to it; returns why the sequence ends,
/// if it does.
type OnToken<'a> = &'a mut dyn FnMut(usize, u32) -> Result<Option<End>>;

/// A model with its tokenizer and the settings of generation.
pub struct Generator<'a> {
    model: &'a dyn CausalLm,
    reader: Reader<'a>,
    read: ReadConfig,
    tokenizer: &'a Tokenizer,
    config: &'a GenerateConfig,
}

impl<'a> Generator<'a> {
    /// A generator with f32 weights, a fixed depth and no drafts.
    ///
    /// # Errors
    /// The configuration is refused, see [`GenerateConfig::validate`].
    pub fn new(
        model: &'a dyn CausalLm,
        tokenizer: &'a Tokenizer,
        config: &'a GenerateConfig,
    ) -> Result<Self> {
        Self::reading(model, tokenizer, config, ReadConfig::default())
    }

    /// A generator that reads tokens as `read` says.
    ///
    /// # Errors
    /// The configuration is refused, drafts cannot be made, or the device does not support it.
    pub fn reading(
        model: &'a dyn CausalLm,
        tokenizer: &'a Tokenizer,
        config: &'a GenerateConfig,
        read: ReadConfig,
    ) -> Result<Self> {
        config.validate()?;
        if let Some(speculation) = read.speculation {
            let most = config.repetitions.unwrap_or(model.repetitions());
            check_speculation(speculation, most)?;
            if matches!(read.sharing, CacheSharing::Window(_)) {
                return Err(Error::input(
                    "drafts are continued from keys and values that a window discards",
                )
                .hint("leave out either --speculate or --kv window"));
            }
            if read.stopping.is_some() {
                return Err(Error::input("drafts are verified at full depth, not under a policy")
                    .hint("leave out either --speculate or --policy and --budget"));
            }
        }
        Ok(Self { model, reader: Reader::new(model, &read)?, read, tokenizer, config })
    }

    /// Continues `prompt`. `listen` is called with every piece of text as soon as it is final, whole
    /// characters only; generation ends when it returns false.
    ///
    /// # Errors
    /// The prompt is empty or too long for the model, or a device fails.
    pub fn generate(
        &self,
        prompt: &str,
        listen: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Continuation> {
        let written = self.generate_all(&[prompt], &mut |_, piece| listen(piece))?;
        written.into_iter().next().ok_or_else(|| Error::internal("a prompt without a continuation"))
    }

    /// Continues several prompts in one batch, each as it would be alone. `listen` is called with the
    /// number of the prompt and every piece of text.
    ///
    /// # Errors
    /// A prompt is empty or too long for the model, or a device fails.
    pub fn generate_all(
        &self,
        prompts: &[&str],
        listen: &mut dyn FnMut(usize, &str) -> bool,
    ) -> Result<Vec<Continuation>> {
        let prompts: Vec<Vec<u32>> =
            prompts.iter().map(|prompt| self.prompt_ids(prompt)).collect::<Result<_>>()?;
        let mut streams: Vec<Stream<'_>> = prompts
            .iter()
            .map(|prompt| Stream::new(self.tokenizer, prompt, &self.config.stop))
            .collect();
        let mut texts = vec![String::new(); prompts.len()];
        let mut emit = |index: usize, piece: String| {
            let continues = piece.is_empty() || listen(index, &piece);
            texts[index].push_str(&piece);
            continues
        };
        let start = Instant::now();
        let drafts = self.write(prompts, &mut |index, id| {
            let (piece, stopped) = streams[index].push(id)?;
            let continues = emit(index, piece);
            Ok(if stopped { Some(End::Stop) } else { (!continues).then_some(End::Listener) })
        })?;
        let seconds = start.elapsed().as_secs_f64();
        for (index, (stream, draft)) in streams.into_iter().zip(&drafts).enumerate() {
            if !matches!(draft.end, Some(End::Stop | End::Listener)) {
                emit(index, stream.finish()?);
            }
        }
        let written = drafts.into_iter().zip(texts).map(|(draft, text)| Continuation {
            text,
            tokens: draft.tokens,
            repetitions: draft.repetitions,
            end: draft.end.unwrap_or(End::MaxTokens),
            seconds,
            drafted: draft.drafted,
            computed: draft.computed,
        });
        Ok(written.collect())
    }

    /// The ids of a prompt, with the beginning-of-text token that the model expects. For an empty
    /// prompt this token alone.
    fn prompt_ids(&self, prompt: &str) -> Result<Vec<u32>> {
        let special = self.tokenizer.special();
        let mut ids = self.tokenizer.encode(prompt)?;
        let opens = |bos: &u32| ids.first() != Some(bos) && (special.add_bos || ids.is_empty());
        if let Some(bos) = special.bos.filter(opens) {
            ids.insert(0, bos);
        }
        if ids.is_empty() {
            return Err(Error::input(
                "the prompt is empty, and this tokenizer has no beginning-of-text token",
            )
            .hint("give the model something to continue"));
        }
        let longest = self.model.base().max_positions;
        if ids.len() > longest {
            return Err(Error::input(format!(
                "the prompt is {} tokens, this model reads 1 to {longest}",
                ids.len()
            ))
            .hint("shorten the prompt"));
        }
        Ok(ids)
    }

    fn depth(&self) -> ReadDepth<'_> {
        let most = self.config.repetitions.unwrap_or(self.model.repetitions());
        let policy = self.read.stopping.as_ref();
        ReadDepth { most, policy: policy.map(|stop| (&*stop.policy, stop.gate.as_ref())) }
    }

    fn write(&self, prompts: Vec<Vec<u32>>, on_token: OnToken<'_>) -> Result<Vec<Draft>> {
        let rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        let mut drafts: Vec<Draft> = prompts
            .into_iter()
            .map(|prompt| Draft {
                prompt,
                tokens: Vec::new(),
                repetitions: Vec::new(),
                rng: rng.clone(),
                drafted: [0; 2],
                computed: 0,
                end: (self.config.max_tokens == 0).then_some(End::MaxTokens),
            })
            .collect();
        match self.read.speculation {
            None => self.write_batch(&mut drafts, on_token)?,
            Some(speculation) => {
                for (index, draft) in drafts.iter_mut().enumerate() {
                    self.speculate(draft, speculation, &mut |id| on_token(index, id))?;
                }
            }
        }
        Ok(drafts)
    }

    /// Writes all sequences, token by token.
    fn write_batch(&self, drafts: &mut [Draft], on_token: OnToken<'_>) -> Result<()> {
        let depth = self.depth();
        let mut memory = self.reader.memory(drafts.len(), depth, self.read.sharing);
        let mut active: Vec<usize> =
            (0..drafts.len()).filter(|&row| drafts[row].end.is_none()).collect();
        while !active.is_empty() {
            let new: Vec<(usize, &[u32])> = active
                .iter()
                .map(|&row| {
                    let draft = &drafts[row];
                    let last = draft.tokens.last().map(std::slice::from_ref);
                    (row, last.unwrap_or(&draft.prompt))
                })
                .collect();
            let outputs = self.reader.read(&new, &mut memory, depth, 1)?;
            for (&row, output) in active.iter().zip(outputs) {
                let draft = &mut drafts[row];
                let id = self.candidates(&output.logits, &draft.all())?.draw(&mut draft.rng);
                self.append(draft, id, output.repetitions, &mut |id| on_token(row, id))?;
            }
            active.retain(|&row| drafts[row].end.is_none());
        }
        drafts.iter_mut().for_each(|draft| draft.computed = memory.computed);
        Ok(())
    }

    fn candidates(&self, logits: &[f32], before: &[u32]) -> Result<Candidates> {
        Candidates::new(logits, before, self.config)
    }

    /// Appends a token, unless it ends the text, and records why the sequence ends, if it does.
    fn append(
        &self,
        draft: &mut Draft,
        id: u32,
        repetitions: usize,
        on_token: &mut dyn FnMut(u32) -> Result<Option<End>>,
    ) -> Result<()> {
        if self.is_end(id) {
            draft.end = Some(End::Model);
            return Ok(());
        }
        draft.tokens.push(id);
        draft.repetitions.push(repetitions);
        draft.end = on_token(id)?;
        // The token just chosen would be read at this position.
        if draft.end.is_none() {
            let read = draft.prompt.len() + draft.tokens.len() - 1;
            if draft.tokens.len() >= self.config.max_tokens {
                draft.end = Some(End::MaxTokens);
            } else if read >= self.model.base().max_positions {
                draft.end = Some(End::MaxPositions);
            }
        }
        Ok(())
    }

    fn is_end(&self, id: u32) -> bool {
        self.tokenizer.special().eos.contains(&id) || self.model.base().eos_tokens.contains(&id)
    }

    /// Speculative decoding of one sequence: few repetitions draft tokens, which are then verified
    /// together at full depth. The text is distributed as without drafts. Leviathan et al. 2023; by
    /// depth, Elhoushi et al. 2024.
    fn speculate(
        &self,
        draft: &mut Draft,
        speculation: Speculation,
        on_token: &mut dyn FnMut(u32) -> Result<Option<End>>,
    ) -> Result<()> {
        let full = self.depth();
        let shallow = ReadDepth { most: speculation.repetitions, policy: None };
        // At one depth all ways of sharing give the same outputs; this one stores what drafts are
        // continued from.
        let mut memory = self.reader.memory(1, full, CacheSharing::CatchUp);
        let positions = self.model.base().max_positions;
        if draft.prompt.len() > 1 {
            let known = &draft.prompt[..draft.prompt.len() - 1];
            self.reader.read(&[(0, known)], &mut memory, full, 1)?;
        }
        while draft.end.is_none() {
            let mut all = draft.all();
            let known = all.len() - 1;
            let left = self.config.max_tokens - draft.tokens.len();
            // Position `known` belongs to the last known token, which is read with the draft.
            let count = speculation.tokens.min(left.saturating_sub(1)).min(positions - known - 1);
            let proposed = self.propose(&mut all, count, &mut memory, shallow, &mut draft.rng)?;
            let last = all.len() - 1;
            let outputs = self.reader.deepen(known, &all[last..], &mut memory, full.most)?;
            let mut accepted_tokens = 0;
            for (place, Output { logits, repetitions }) in outputs.into_iter().enumerate() {
                let target = self.candidates(&logits, &all[..=known + place])?;
                let (id, accepted) = match proposed.get(place) {
                    Some(drafted) => target.verify(all[known + 1 + place], drafted, &mut draft.rng),
                    None => (target.draw(&mut draft.rng), false),
                };
                self.append(draft, id, repetitions, on_token)?;
                accepted_tokens += usize::from(accepted);
                if !accepted || draft.end.is_some() {
                    break;
                }
            }
            draft.drafted[0] += count;
            draft.drafted[1] += accepted_tokens;
            draft.computed = memory.computed;
            memory.truncate(0, known + 1 + accepted_tokens);
        }
        Ok(())
    }

    /// Drafts `count` tokens with few repetitions and appends them to `all`; returns the distribution
    /// that each was drawn from.
    fn propose(
        &self,
        all: &mut Vec<u32>,
        count: usize,
        memory: &mut Memory,
        shallow: ReadDepth<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Candidates>> {
        let mut proposed = Vec::with_capacity(count);
        for _ in 0..count {
            let last = all.len() - 1;
            let outputs = self.reader.read(&[(0, &all[last..])], memory, shallow, 1)?;
            let output = outputs.first().ok_or_else(|| Error::internal("no token was read"))?;
            let candidates = self.candidates(&output.logits, all)?;
            all.push(candidates.draw(rng));
            proposed.push(candidates);
        }
        Ok(proposed)
    }
}

fn check_speculation(speculation: Speculation, most: usize) -> Result<()> {
    let Speculation { repetitions, tokens } = speculation;
    if repetitions == 0 || repetitions >= most || tokens == 0 {
        return Err(Error::input(format!(
            "drafts of {tokens} tokens by {repetitions} of {most} repetitions, expected 1 or more \
             tokens, and fewer repetitions than verify them"
        )));
    }
    Ok(())
}
