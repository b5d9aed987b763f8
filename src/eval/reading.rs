//! Answers of a model at the supervised tokens of a batch, after each number of repetitions.

use std::ops::Range;

use candle_core::Tensor;

use crate::autograd::{Tape, Value};
use crate::data::{Batch, SupervisedTokens};
use crate::error::{Error, Result};
use crate::model::CausalLm;
use crate::nn::gather;

/// Outputs of a model at the supervised tokens of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The top-1 token at each place.
    pub answers: Vec<u32>,
    /// log p of every token at each place, in nats, (places, V) row by row.
    pub log_p: Vec<f32>,
}

/// Outputs of `model` at the supervised tokens of `batch` after each of `repetitions` of its core, in
/// their order. An unshared stack has the same output for each.
///
/// # Errors
/// The batch supervises no token, an id is past the vocabulary, or the device fails.
pub fn read(model: &dyn CausalLm, batch: &Batch, repetitions: &[usize]) -> Result<Vec<Reading>> {
    let supervised = SupervisedTokens::in_targets(&batch.targets)
        .map_or_else(|| (0..batch.tokens()).collect(), |mask| mask.places);
    let most = repetitions.iter().copied().max().unwrap_or(1);
    if supervised.is_empty() || repetitions.contains(&0) {
        return Err(Error::input("there is no supervised token, or no repetition to read at"));
    }
    let tape = Tape::off();
    let ids = batch.input_tensor(model.embedding_and_head().device())?;
    let states = model.states(&tape, &ids, most)?;
    let read = |repetitions: &usize| {
        let Some(config) = model.factorization() else {
            return read_state(model, &states[states.len() - 1], &supervised);
        };
        let state = &states[config.prelude_layers + config.core_layers * repetitions];
        read_state(model, &model.after_core(&tape, state)?, &supervised)
    };
    repetitions.iter().map(read).collect()
}

/// The outputs from a state before the last norm, (B, T, D).
fn read_state(model: &dyn CausalLm, state: &Value, places: &[usize]) -> Result<Reading> {
    let gathered = gather(&Tape::off(), state, places)?.tensor().unsqueeze(0)?;
    let logits: Tensor = model.embedding_and_head().logits(&gathered)?;
    let vocabulary = model.base().vocabulary;
    let mut log_p = logits.flatten_all()?.to_vec1::<f32>()?;
    let mut answers = Vec::with_capacity(places.len());
    for row in log_p.chunks_exact_mut(vocabulary) {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let (token, highest) = best.map_or((0, 0.0), |(token, value)| (token as u32, *value));
        let sum = row.iter().map(|value| (value - highest).exp()).sum::<f32>().ln() + highest;
        row.iter_mut().for_each(|value| *value -= sum);
        answers.push(token);
    }
    Ok(Reading { answers, log_p })
}

impl Reading {
    /// The outputs at some of the places.
    #[must_use]
    pub fn part(&self, places: Range<usize>) -> Self {
        let vocabulary = self.log_p.len() / self.answers.len().max(1);
        let log_p = self.log_p[places.start * vocabulary..places.end * vocabulary].to_vec();
        Self { answers: self.answers[places].to_vec(), log_p }
    }

    /// Whether each example, of `width` places, is answered right in all of them.
    #[must_use]
    pub fn correct(&self, targets: &[u32], width: usize) -> Vec<bool> {
        let examples = self.answers.chunks(width.max(1)).zip(targets.chunks(width.max(1)));
        examples.map(|(answer, target)| answer == target).collect()
    }

    /// The mean of -log p of the targets, in nats.
    #[must_use]
    pub fn nll(&self, targets: &[u32]) -> f64 {
        let vocabulary = self.log_p.len() / targets.len().max(1);
        let rows = self.log_p.chunks(vocabulary.max(1)).zip(targets);
        let sum: f64 = rows.map(|(row, target)| -f64::from(row[*target as usize])).sum();
        sum / targets.len().max(1) as f64
    }

    /// Share of places where `other` has the same top-1 token, and the mean KL(other || this), in nats.
    #[must_use]
    pub fn beside(&self, other: &Self) -> (f64, f64) {
        let count = self.answers.len().max(1) as f64;
        let same = self.answers.iter().zip(&other.answers).filter(|(a, b)| a == b).count();
        let terms = self.log_p.iter().zip(&other.log_p);
        let kl: f64 = terms.map(|(q, p)| f64::from(*p).exp() * f64::from(p - q)).sum();
        (same as f64 / count, kl / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(rows: &[[f32; 2]]) -> Reading {
        let log_p = rows.iter().flatten().map(|p| p.ln()).collect();
        let answers = rows.iter().map(|row| u32::from(row[1] > row[0])).collect();
        Reading { answers, log_p }
    }

    #[test]
    fn an_answer_of_two_places_is_right_when_both_are() {
        let read = reading(&[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]);
        assert_eq!(read.correct(&[0, 1, 0, 1], 2), [true, false]);
        let by_hand = -(0.9f64.ln() + 0.8f64.ln() + 0.6f64.ln() + 0.3f64.ln()) / 4.0;
        assert!((read.nll(&[0, 1, 0, 1]) - by_hand).abs() < 1e-6);
    }

    #[test]
    fn kl_and_agreement_are_those_of_the_two_distributions() {
        let (teacher, student) =
            (reading(&[[0.5, 0.5], [0.9, 0.1]]), reading(&[[0.5, 0.5], [0.4, 0.6]]));
        let (agreement, kl) = student.beside(&teacher);
        let by_hand = 0.45 * (0.9f64 / 0.4).ln() + 0.05 * (0.1f64 / 0.6).ln();
        assert!((kl - by_hand).abs() < 1e-6, "{kl} {by_hand}");
        assert!((agreement - 0.5).abs() < 1e-12);
        assert!(teacher.beside(&teacher).1.abs() < 1e-12);
    }
}
