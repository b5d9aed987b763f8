//! What came of a run?

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::write_atomically;
use crate::error::{Error, Result};
use crate::eval::{Evaluation, StudentScore};
use crate::hub::Card;
use crate::recipe::Recipe;
use crate::train::Summary;

/// The content of `eval.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Of the recipe.
    pub name: String,
    /// Of the recipe.
    pub seed: u64,
    /// The model that was distilled; none when one was trained from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_source: Option<String>,
    /// Its blake3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_fingerprint: Option<String>,
    /// How training went.
    pub training: Training,
    /// Teacher and student on the test split; a model trained from nothing stands as the teacher.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// The student as it started, at N repetitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrained: Option<StudentScore>,
    /// What both write.
    pub samples: Vec<Sample>,
}

/// How training went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Training {
    /// Steps of the optimizer.
    pub steps: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Time of the training steps.
    pub seconds: f64,
    /// Steps whose loss or gradient was not finite.
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

/// A prompt and how the models continue it, most likely token by token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// The beginning.
    pub prompt: String,
    /// The deep model's continuation.
    pub teacher: String,
    /// The student's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student: Option<String>,
}

impl Report {
    /// Writes it as JSON.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    /// What the model card tells of it.
    pub(super) fn card(&self, recipe: &Recipe) -> Result<Card> {
        let training = &self.training;
        let trained =
            format!("It was trained for {} steps on {} tokens.", training.steps, training.tokens);
        Ok(Card {
            name: self.name.clone(),
            teacher: self.teacher_source.clone(),
            recipe: Some(recipe.to_toml()?),
            tables: vec![
                ("Results on held-out text".to_owned(), self.table()),
                ("Costs".to_owned(), self.evaluation.costs()),
            ],
            notes: vec![trained],
        })
    }

    /// Teacher beside student: a head, then rows of as many cells. The student as it started
    /// stands between the two.
    #[must_use]
    pub fn table(&self) -> Vec<Vec<String>> {
        let mut rows = self.evaluation.table();
        if let Some(untrained) = &self.untrained {
            let alone = Evaluation { student: vec![untrained.clone()], ..self.evaluation.clone() };
            let row = alone.table().pop().map(|mut row| {
                "student, untrained".clone_into(&mut row[0]);
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

/// Writes a value as JSON, whole or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::internal(format!("writing {}: {error}", path.display())))?;
    bytes.push(b'\n');
    write_atomically(path, &bytes)
}
