//! Accuracy of shortcuts: how often an answer is right without the chain being computed.

use std::collections::HashMap;
use std::hash::Hash;

use serde::Serialize;

use super::example::{Example, TaskSplit};
use super::task::Task;
use crate::error::{Error, Result};

/// Shares of examples answered exactly, in all tokens, by shortcuts. The shortcuts were fitted on
/// the train split; a model has learned something only where it is clearly above them all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Baselines {
    /// One answer drawn uniformly from all that the task allows.
    pub chance: f64,
    /// In each slot the token that is most often right there.
    pub majority: f64,
    /// The window of the input that is most often the answer.
    pub copy_input: f64,
    /// The answer that is most often right after the same last token of the input.
    pub last_token: f64,
}

/// Measures the shortcuts on `count` examples of `split`, with chains of `length` steps.
///
/// # Errors
/// As [`Task::example`]; or `count` is 0.
pub fn baselines(
    task: &Task,
    split: TaskSplit,
    seed: u64,
    count: u64,
    length: usize,
) -> Result<Baselines> {
    if count == 0 {
        return Err(Error::input("baselines of 0 examples, expected at least 1"));
    }
    // Other indices than those scored: the train split is not scored on what was fitted.
    let draw = |split, begin: u64| -> Result<Vec<Example>> {
        (0..count).map(|index| task.example(split, seed, begin + index, length)).collect()
    };
    let fitted = draw(TaskSplit::Train, count)?;
    let scored = draw(split, 0)?;
    let majority: Vec<u32> = (0..task.answer_tokens(length))
        .filter_map(|slot| commonest(fitted.iter().map(|example| example.answer[slot])))
        .collect();
    let window = best_window(&fitted);
    let by_last_token = answers_by_last_token(&fitted);
    let last_token = |example: &Example| {
        example.input.last().and_then(|token| by_last_token.get(token)) == Some(&example.answer)
    };
    Ok(Baselines {
        chance: task.chance(length),
        majority: share(&scored, |example| example.answer == majority),
        copy_input: share(&scored, |example| copies(example, window)),
        last_token: share(&scored, last_token),
    })
}

fn share(examples: &[Example], is_right: impl Fn(&Example) -> bool) -> f64 {
    examples.iter().filter(|example| is_right(example)).count() as f64 / examples.len() as f64
}

/// Is the answer the window of the input that begins at `begin`?
fn copies(example: &Example, begin: usize) -> bool {
    example.input[begin..].starts_with(&example.answer)
}

fn best_window(examples: &[Example]) -> usize {
    let begins = |example: &Example| {
        (0..example.input.len()).filter(|begin| copies(example, *begin)).collect::<Vec<_>>()
    };
    commonest(examples.iter().flat_map(begins)).unwrap_or(0)
}

fn answers_by_last_token(examples: &[Example]) -> HashMap<u32, Vec<u32>> {
    let mut answers: HashMap<u32, Vec<&Vec<u32>>> = HashMap::new();
    for example in examples {
        if let Some(last) = example.input.last() {
            answers.entry(*last).or_default().push(&example.answer);
        }
    }
    let best = |(last, answers): (u32, Vec<&Vec<u32>>)| Some((last, commonest(answers)?.clone()));
    answers.into_iter().filter_map(best).collect()
}

/// What occurs most often; of equals the smallest, so that no order of a map shows.
fn commonest<T: Hash + Ord + Copy>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut counts: HashMap<T, usize> = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0))).map(|(value, _)| value)
}
