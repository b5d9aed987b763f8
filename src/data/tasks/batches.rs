//! Batches of task examples whose steps are read out of slots, one step after each repetition.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::example::TaskSplit;
use super::task::Task;
use super::view::{View, encode};
use crate::data::batch::{Batch, Batches, IGNORED};
use crate::data::permutation::Permutation;
use crate::error::{Error, Result};

/// Targets of the S slots when chains of every length are padded to the same number of steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskSupervision {
    /// Each step of the chain, and past its end its answer again.
    #[default]
    Steps,
    /// The answer, from the first on.
    Answers,
}

/// Batches of examples whose steps are read out of slots at their end, one after each repetition;
/// an endless stream without state, as all [`Batches`]. Chains of one batch are of one length.
#[derive(Debug, Clone)]
pub struct TaskBatches {
    task: Task,
    split: TaskSplit,
    seed: u64,
    rows: usize,
    shortest: usize,
    longest: usize,
    /// Number of distinct examples; `None`: every example is new.
    examples: Option<u64>,
    /// Supervision and number of steps; None: as many steps as the chain has.
    supervision: Option<(TaskSupervision, usize)>,
}

impl TaskBatches {
    /// `rows` new examples a batch, with the longest chains.
    #[must_use]
    pub fn new(task: &Task, split: TaskSplit, seed: u64, rows: usize) -> Self {
        let longest = task.chain_length();
        let (shortest, task) = (longest, task.clone());
        Self { task, split, seed, rows, shortest, longest, examples: None, supervision: None }
    }

    /// All chains of `length`.
    ///
    /// # Errors
    /// The task has none of that length.
    pub fn of_length(self, length: usize) -> Result<Self> {
        self.of_lengths(length, length)
    }

    /// Chains of `shortest` to `longest`, each length as often.
    ///
    /// # Errors
    /// The task has none of those lengths, or they do not rise.
    pub fn of_lengths(self, shortest: usize, longest: usize) -> Result<Self> {
        let most = self.task.chain_length();
        if shortest == 0 || shortest > longest || longest > most {
            return Err(Error::input(format!(
                "chains of {shortest} to {longest} steps, expected 1 to {most}, rising"
            )));
        }
        Ok(Self { shortest, longest, ..self })
    }

    /// Only the first `examples` examples, each length with its share of them, in another order
    /// each time round.
    #[must_use]
    pub fn of_examples(self, examples: u64) -> Self {
        Self { examples: Some(examples), ..self }
    }

    /// Pads chains of every length to `steps` steps, at least as many as the longest has.
    #[must_use]
    pub fn supervised(self, supervision: TaskSupervision, steps: usize) -> Self {
        let steps = steps.max(self.task.chain_length());
        Self { supervision: Some((supervision, steps)), ..self }
    }

    /// The number of the example at a place in the stream of one length.
    fn number(&self, place: u64) -> u64 {
        let lengths = (self.longest - self.shortest + 1) as u64;
        match self.examples.map(|all| all.div_ceil(lengths)) {
            None | Some(0) => place,
            Some(share) => {
                let epoch = place / share;
                Permutation::new(share, self.seed, epoch).at(place % share)
            }
        }
    }
}

impl Batches for TaskBatches {
    fn batch(&self, index: u64) -> Result<Batch> {
        let lengths = (self.longest - self.shortest + 1) as u64;
        // Every length in turn, in another order each round.
        let turn = Permutation::new(lengths, self.seed, index / lengths).at(index % lengths);
        let length = self.shortest + turn as usize;
        let first = index / lengths * self.rows as u64;
        let mut batch = Batch { rows: self.rows, ..Batch::default() };
        for row in 0..self.rows as u64 {
            let number = self.number(first + row);
            let example = self.task.example(self.split, self.seed, number, length)?;
            let [sequence] = &encode(&self.task, &example, View::Loop)?[..] else {
                return Err(Error::internal("an example of several sequences"));
            };
            batch.columns = sequence.inputs.len();
            batch.inputs.extend(&sequence.inputs);
            batch.chain.resize(sequence.targets.len(), Vec::new());
            for (step, targets) in batch.chain.iter_mut().zip(&sequence.targets) {
                step.extend(targets);
            }
            // A chain may be another example's; the answer never is. Paths are supervised step by step.
            let (slots, answer) = (self.task.width(), &example.answer);
            let unsupervised = batch.columns - slots;
            let last = sequence.targets.last().map(|last| last[unsupervised..].to_vec());
            let answer = if answer.len() == slots { Some(answer.clone()) } else { last };
            batch.targets.extend(std::iter::repeat_n(IGNORED, unsupervised));
            batch.targets.extend(answer.unwrap_or_default());
        }
        if let Some((supervision, steps)) = self.supervision {
            if supervision == TaskSupervision::Answers {
                batch.chain.clear();
            }
            batch.chain.resize(steps, batch.targets.clone());
        }
        Ok(batch)
    }
}
