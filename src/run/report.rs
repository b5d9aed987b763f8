//! The report of a run: `eval.json`, the model card, and their tables.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::provenance::Provenance;
use crate::disk::write_atomically;
use crate::error::{Error, Result};
use crate::eval::{Evaluation, StudentScore};
use crate::hub::{About, Card};
use crate::recipe::Recipe;
use crate::train::Summary;

/// The content of `eval.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Name of the recipe.
    #[serde(default)]
    pub name: String,
    /// Seed of the recipe.
    #[serde(default)]
    pub seed: u64,
    /// Source of the teacher; none for a pretraining run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_source: Option<String>,
    /// blake3 fingerprint of the teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_fingerprint: Option<String>,
    /// Program, machine, command and date; absent in files of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Totals of the training.
    #[serde(default)]
    pub training: Training,
    /// Scores on the test split; a pretrained model is scored as the teacher.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Scores of the student before training, at N repetitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrained: Option<StudentScore>,
    /// Sample continuations.
    #[serde(default)]
    pub samples: Vec<Sample>,
}

/// Totals of a training.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Training {
    /// Steps of the optimizer.
    pub steps: u64,
    /// Tokens of the training batches.
    pub tokens: u64,
    /// Seconds spent in training steps.
    pub seconds: f64,
    /// Steps skipped because the loss or gradient was not finite.
    pub skipped: u64,
    /// Loss of the last step.
    pub loss: f64,
}

impl From<&Summary> for Training {
    fn from(summary: &Summary) -> Self {
        Self {
            steps: summary.steps,
            tokens: summary.tokens,
            seconds: summary.seconds,
            skipped: summary.skipped,
            loss: summary.loss,
        }
    }
}

/// A prompt and its greedy continuations.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// The prompt.
    pub prompt: String,
    /// The continuation by the teacher, or by a pretrained model.
    pub teacher: String,
    /// The continuation by the student.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student: Option<String>,
}

impl Report {
    /// Writes the report as JSON.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    /// The model card; `teacher` is what the teacher says of itself.
    pub(super) fn card(&self, recipe: &Recipe, teacher: &About) -> Result<Card> {
        let training = &self.training;
        let trained =
            format!("It was trained for {} steps on {} tokens.", training.steps, training.tokens);
        let window_tokens = recipe.data.window_tokens;
        let about = match &self.teacher_source {
            Some(source) => teacher.of_student(source, window_tokens),
            None => About { trained_window_tokens: Some(window_tokens), ..About::default() },
        };
        Ok(Card {
            name: self.name.clone(),
            about,
            recipe: Some(recipe.to_toml()?),
            tables: vec![
                ("Results on held-out text".to_owned(), self.table()),
                ("Costs".to_owned(), self.evaluation.costs()),
            ],
            metrics: self.metrics(),
            notes: vec![trained],
            ..Card::default()
        })
    }

    /// Perplexity and agreement of what was trained, at its N repetitions.
    fn metrics(&self) -> Vec<(String, f64)> {
        let found = &self.evaluation;
        let trained = found.trained_repetitions;
        let student = found.student.iter().find(|score| Some(score.repetitions) == trained);
        let metrics = match student {
            Some(score) => vec![
                ("perplexity", score.perplexity),
                ("kl_divergence", score.kl_nats),
                ("top_1_agreement", score.agreement),
            ],
            None => vec![("perplexity", found.teacher.perplexity)],
        };
        let finite = metrics.into_iter().filter(|(_, value)| value.is_finite());
        finite.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// A table of teacher and student: a head, then rows of as many cells. The untrained student
    /// comes between the two.
    #[must_use]
    pub fn table(&self) -> Vec<Vec<String>> {
        let mut rows = self.evaluation.table();
        if let Some(untrained) = &self.untrained {
            let alone = Evaluation { student: vec![untrained.clone()], ..self.evaluation.clone() };
            let row = alone.table().pop().map(|mut row| {
                "untrained".clone_into(&mut row[0]);
                row
            });
            rows.splice(2..2, row);
        }
        if self.teacher_source.is_none() {
            rows.iter_mut().skip(1).for_each(|row| "model".clone_into(&mut row[0]));
        }
        rows
    }
}

/// Writes a value as JSON, atomically.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::internal(format!("writing {}: {error}", path.display())))?;
    bytes.push(b'\n');
    write_atomically(path, &bytes)
}
