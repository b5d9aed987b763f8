//! Examples of a task, drawn so that no input is in two splits.

use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::config::TaskConfig;
use super::example::{Chains, Example, NamedExample, TaskSplit};
use super::rules::Rules;
use super::special::{self, FIRST_SYMBOL};
use crate::error::{Error, Result};

/// Draws before a split counts as empty. One that has a 500th of the inputs is missed by all of
/// them about once in half a billion times.
const MOST_DRAWS: usize = 10_000;

/// A task whose settings have been checked.
#[derive(Debug, Clone)]
pub struct Task {
    config: TaskConfig,
    rules: Arc<dyn Rules>,
}

impl Task {
    /// # Errors
    /// A setting is out of its range.
    pub fn new(config: TaskConfig) -> Result<Self> {
        Ok(Self { rules: config.rules()?, config })
    }

    /// What it was made from.
    pub fn config(&self) -> &TaskConfig {
        &self.config
    }

    /// How many token ids there are, special ones included.
    pub fn vocabulary(&self) -> usize {
        FIRST_SYMBOL as usize + self.rules.symbols()
    }

    /// A readable token, without blanks.
    pub fn token_name(&self, token: u32) -> String {
        if let Some(name) = special::name(token) {
            return name.to_owned();
        }
        let symbol = token - FIRST_SYMBOL;
        let is_known = (symbol as usize) < self.rules.symbols();
        if is_known { self.rules.name(symbol) } else { format!("unknown:{token}") }
    }

    /// The longest chain (steps).
    pub fn chain_length(&self) -> usize {
        self.rules.longest_chain()
    }

    /// The tokens of a step.
    pub fn width(&self) -> usize {
        self.rules.width()
    }

    /// The tokens of an input whose chain has `length` steps.
    pub fn input_tokens(&self, length: usize) -> usize {
        self.rules.input_symbols(length)
    }

    /// The tokens of its answer.
    pub fn answer_tokens(&self, length: usize) -> usize {
        self.rules.answer_symbols(length)
    }

    /// How many inputs have a chain of `length` steps; `None` where that is past 128 bits.
    pub fn distinct_inputs(&self, length: usize) -> Option<u128> {
        self.rules.distinct_inputs(length.min(self.chain_length()))
    }

    /// How often one answer drawn uniformly from all that the task allows is right.
    pub fn chance(&self, length: usize) -> f64 {
        self.rules.chance(length)
    }

    /// Example `index` of a split, with a chain of `length` steps. The same arguments give the same
    /// example.
    ///
    /// # Errors
    /// The task has no chain of that length, or too few inputs to find one of this split.
    pub fn example(
        &self,
        split: TaskSplit,
        seed: u64,
        index: u64,
        length: usize,
    ) -> Result<Example> {
        self.allows(length)?;
        let mut hasher = blake3::Hasher::new_derive_key("factorexe task example 1");
        for word in [split as u64, seed, index, length as u64] {
            hasher.update(&word.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
        let symbols = self.draw(split, length, &mut rng, None)?;
        let own = self.chain(&symbols, length);
        let answer = tokens(&self.rules.answer(&own));
        let shown = match self.config.chains() {
            Chains::Exact => own,
            Chains::Shuffled => {
                let another = self.draw(split, length, &mut rng, Some(&symbols))?;
                self.chain(&another, length)
            }
        };
        let steps = shown.iter().map(|state| tokens(state)).collect();
        Ok(Example { input: tokens(&symbols), steps, answer })
    }

    /// An example in the names of its tokens.
    pub fn named(&self, example: &Example) -> NamedExample {
        let names = |tokens: &[u32]| tokens.iter().map(|token| self.token_name(*token)).collect();
        NamedExample {
            input: names(&example.input),
            chain: example.steps.iter().map(|state| names(state)).collect(),
            answer: names(&example.answer),
        }
    }

    /// An input of `split` other than `except`.
    fn draw(
        &self,
        split: TaskSplit,
        length: usize,
        rng: &mut ChaCha8Rng,
        except: Option<&[u32]>,
    ) -> Result<Vec<u32>> {
        for _ in 0..MOST_DRAWS {
            let symbols = self.rules.draw(length, rng);
            if TaskSplit::of(&tokens(&symbols)) == split && Some(symbols.as_slice()) != except {
                return Ok(symbols);
            }
        }
        let size = match self.distinct_inputs(length) {
            Some(1) => "1 input".to_owned(),
            Some(count) => format!("{count} inputs"),
            None => "very many inputs".to_owned(),
        };
        let wanted = if except.is_some() { "a second input" } else { "an input" };
        Err(Error::input(format!(
            "none of {MOST_DRAWS} draws gave {wanted} of the {split:?} split; a chain of \
             {length} steps has {size}"
        ))
        .hint(
            "leave out chains this short, or choose more symbols: splits need some hundred inputs",
        ))
    }

    fn chain(&self, input: &[u32], length: usize) -> Vec<Vec<u32>> {
        let mut state = self.rules.start(input);
        let next = |step| {
            state = self.rules.step(input, &state, step);
            state.clone()
        };
        (0..length).map(next).collect()
    }

    /// What decides step `step` of an example that fits: its context, in tokens.
    pub(super) fn context(&self, example: &Example, step: usize) -> Vec<u32> {
        let state = symbols(&self.state_before(example, step));
        tokens(&self.rules.context(&symbols(&example.input), &state, step))
    }

    /// The state before step `step` of an example that fits, in tokens.
    pub(super) fn state_before(&self, example: &Example, step: usize) -> Vec<u32> {
        match step.checked_sub(1) {
            None => tokens(&self.rules.start(&symbols(&example.input))),
            Some(before) => example.steps[before].clone(),
        }
    }

    fn allows(&self, length: usize) -> Result<()> {
        let most = self.chain_length();
        if (1..=most).contains(&length) {
            return Ok(());
        }
        Err(Error::input(format!("a chain of {length} steps, expected 1 to {most} steps")))
    }

    /// Has an example the shape of this task's examples?
    pub(super) fn fits(&self, example: &Example) -> Result<()> {
        let length = example.steps.len();
        self.allows(length)?;
        let parts = [
            ("input", &example.input, self.input_tokens(length)),
            ("answer", &example.answer, self.answer_tokens(length)),
        ];
        let steps = example.steps.iter().map(|state| ("step", state, self.width()));
        for (part, found, expected) in parts.into_iter().chain(steps) {
            if found.len() != expected {
                let found = found.len();
                return Err(Error::input(format!(
                    "the {part} has {found} tokens, expected {expected}"
                )));
            }
            let known = FIRST_SYMBOL..self.vocabulary() as u32;
            if let Some(token) = found.iter().find(|token| !known.contains(token)) {
                return Err(Error::input(format!(
                    "token {token} in the {part}, expected {} to {}",
                    known.start,
                    known.end - 1
                )));
            }
        }
        Ok(())
    }
}

fn tokens(symbols: &[u32]) -> Vec<u32> {
    symbols.iter().map(|symbol| symbol + FIRST_SYMBOL).collect()
}

fn symbols(tokens: &[u32]) -> Vec<u32> {
    tokens.iter().map(|token| token - FIRST_SYMBOL).collect()
}
