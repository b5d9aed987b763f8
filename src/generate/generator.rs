//! How does a model write, one token at a time?

use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::config::GenerateConfig;
use super::reader::{Memory, ReadConfig, Reader, Said, Speculation};
use super::sampling::Candidates;
use super::stream::Stream;
use crate::data::Tokenizer;
use crate::decode::{CacheSharing, ReadDepth};
use crate::error::{Error, Result};
use crate::model::CausalLm;

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
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// The text after the prompt.
    pub text: String,
    /// Its tokens, those of a text to stop at included.
    pub tokens: Vec<u32>,
    /// Repetitions of the core that led to each token.
    pub repetitions: Vec<usize>,
    /// Why it is over.
    pub end: End,
    /// From the first token of the prompt to the last one written, batches together.
    pub seconds: f64,
    /// Tokens of drafts that were made, and those of them that were kept.
    pub drafted: [usize; 2],
    /// Times a token went through the core, those of the prompt and of drafts that were not kept
    /// included, batches together.
    pub computed: usize,
}

/// Tokens of a phrase.
const PHRASE: usize = 4;

impl Continuation {
    /// Share of the phrases of four tokens that were written before, 0..1: how much a text goes
    /// round in circles.
    #[must_use]
    pub fn repeated_phrases(&self) -> f64 {
        let mut seen = std::collections::HashSet::new();
        let phrases = self.tokens.windows(PHRASE);
        let count = phrases.len().max(1);
        phrases.filter(|phrase| !seen.insert(*phrase)).count() as f64 / count as f64
    }
}

/// What is written so far of one text.
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
    /// Prompt and tokens.
    fn all(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.tokens].concat()
    }
}

/// Told every token as it is written: the number of the text, and the token. Says whether that
/// text is over.
type Hear<'a> = &'a mut dyn FnMut(usize, u32) -> Result<Option<End>>;

/// A model, its tokenizer and a way to choose.
pub struct Generator<'a> {
    model: &'a dyn CausalLm,
    reader: Reader<'a>,
    read: ReadConfig,
    tokenizer: &'a Tokenizer,
    config: &'a GenerateConfig,
}

impl<'a> Generator<'a> {
    /// Puts them together: f32 weights, a fixed depth, no drafts.
    ///
    /// # Errors
    /// The configuration draws nothing.
    pub fn new(
        model: &'a dyn CausalLm,
        tokenizer: &'a Tokenizer,
        config: &'a GenerateConfig,
    ) -> Result<Self> {
        Self::reading(model, tokenizer, config, ReadConfig::default())
    }

    /// Puts them together.
    ///
    /// # Errors
    /// The configuration draws nothing, drafts cannot be made, or the device cannot do it.
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
                return Err(Error::input("drafts go on from what a window forgets")
                    .hint("leave out either --speculate or --kv window"));
            }
            if read.stopping.is_some() {
                return Err(Error::input("drafts are verified at full depth, not under a policy")
                    .hint("leave out either --speculate or --policy and --budget"));
            }
        }
        Ok(Self { model, reader: Reader::new(model, &read)?, read, tokenizer, config })
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
        let written = self.generate_all(&[prompt], &mut |_, piece| listen(piece))?;
        written.into_iter().next().ok_or_else(|| Error::internal("a prompt without an answer"))
    }

    /// Continues several prompts together, each as it would be alone. `listen` is given the number
    /// of the prompt with every piece.
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
        let mut tell = |index: usize, piece: String| {
            let goes_on = piece.is_empty() || listen(index, &piece);
            texts[index].push_str(&piece);
            goes_on
        };
        let start = Instant::now();
        let drafts = self.write(prompts, &mut |index, id| {
            let (piece, stopped) = streams[index].push(id)?;
            let goes_on = tell(index, piece);
            Ok(if stopped { Some(End::Stop) } else { (!goes_on).then_some(End::Listener) })
        })?;
        let seconds = start.elapsed().as_secs_f64();
        for (index, (stream, draft)) in streams.into_iter().zip(&drafts).enumerate() {
            if !matches!(draft.end, Some(End::Stop | End::Listener)) {
                tell(index, stream.finish()?);
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

    fn write(&self, prompts: Vec<Vec<u32>>, hear: Hear<'_>) -> Result<Vec<Draft>> {
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
            None => self.together(&mut drafts, hear)?,
            Some(how) => {
                for (index, draft) in drafts.iter_mut().enumerate() {
                    self.speculate(draft, how, &mut |id| hear(index, id))?;
                }
            }
        }
        Ok(drafts)
    }

    /// All texts, token by token.
    fn together(&self, drafts: &mut [Draft], hear: Hear<'_>) -> Result<()> {
        let depth = self.depth();
        let mut memory = self.reader.memory(drafts.len(), depth, self.read.sharing);
        let mut turn: Vec<usize> =
            (0..drafts.len()).filter(|&text| drafts[text].end.is_none()).collect();
        while !turn.is_empty() {
            let new: Vec<(usize, &[u32])> = turn
                .iter()
                .map(|&text| {
                    let draft = &drafts[text];
                    let last = draft.tokens.last().map(std::slice::from_ref);
                    (text, last.unwrap_or(&draft.prompt))
                })
                .collect();
            let said = self.reader.read(&new, &mut memory, depth, 1)?;
            for (&text, said) in turn.iter().zip(said) {
                let draft = &mut drafts[text];
                let id = self.candidates(&said.logits, &draft.all())?.draw(&mut draft.rng);
                self.take(draft, id, said.repetitions, &mut |id| hear(text, id))?;
            }
            turn.retain(|&text| drafts[text].end.is_none());
        }
        drafts.iter_mut().for_each(|draft| draft.computed = memory.computed);
        Ok(())
    }

    fn candidates(&self, logits: &[f32], before: &[u32]) -> Result<Candidates> {
        Candidates::new(logits, before, self.config)
    }

    /// Adds a token, unless it ends the text; notes whether the text is over.
    fn take(
        &self,
        draft: &mut Draft,
        id: u32,
        repetitions: usize,
        hear: &mut dyn FnMut(u32) -> Result<Option<End>>,
    ) -> Result<()> {
        if self.ends(id) {
            draft.end = Some(End::Model);
            return Ok(());
        }
        draft.tokens.push(id);
        draft.repetitions.push(repetitions);
        draft.end = hear(id)?;
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

    fn ends(&self, id: u32) -> bool {
        self.tokenizer.special().eos.contains(&id) || self.model.base().eos_tokens.contains(&id)
    }

    /// One text: few repetitions propose tokens, which are then taken further together, to full
    /// depth, and looked at there. What is written is distributed as without drafts. Leviathan et
    /// al. 2023; by depth, Elhoushi et al. 2024.
    fn speculate(
        &self,
        draft: &mut Draft,
        how: Speculation,
        hear: &mut dyn FnMut(u32) -> Result<Option<End>>,
    ) -> Result<()> {
        let full = self.depth();
        let shallow = ReadDepth { most: how.repetitions, policy: None };
        // At one depth all ways of sharing read the same; this one keeps what a draft goes on from.
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
            // Position `known` is the last known token's, which is read with the draft.
            let count = how.tokens.min(left.saturating_sub(1)).min(positions - known - 1);
            let proposed = self.propose(&mut all, count, &mut memory, shallow, &mut draft.rng)?;
            let last = all.len() - 1;
            let said = self.reader.deepen(known, &all[last..], &mut memory, full.most)?;
            let mut kept = 0;
            for (at, Said { logits, repetitions }) in said.into_iter().enumerate() {
                let target = self.candidates(&logits, &all[..=known + at])?;
                let (id, accepted) = match proposed.get(at) {
                    Some(from) => target.verify(all[known + 1 + at], from, &mut draft.rng),
                    None => (target.draw(&mut draft.rng), false),
                };
                self.take(draft, id, repetitions, hear)?;
                kept += usize::from(accepted);
                if !accepted || draft.end.is_some() {
                    break;
                }
            }
            draft.drafted[0] += count;
            draft.drafted[1] += kept;
            draft.computed = memory.computed;
            memory.truncate(0, known + 1 + kept);
        }
        Ok(())
    }

    /// Adds `count` tokens to `all` by few repetitions; gives what each was drawn from.
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
            let said = self.reader.read(&[(0, &all[last..])], memory, shallow, 1)?;
            let said = said.first().ok_or_else(|| Error::internal("nothing was said"))?;
            let candidates = self.candidates(&said.logits, all)?;
            all.push(candidates.draw(rng));
            proposed.push(candidates);
        }
        Ok(proposed)
    }
}

fn check_speculation(how: Speculation, most: usize) -> Result<()> {
    if how.repetitions == 0 || how.repetitions >= most || how.tokens == 0 {
        return Err(Error::input(format!(
            "drafts of {} tokens by {} of {most} repetitions, expected 1 or more tokens, and fewer \
             repetitions than verify them",
            how.tokens, how.repetitions
        )));
    }
    Ok(())
}
