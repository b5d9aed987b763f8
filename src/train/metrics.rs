//! Metrics of each step: `metrics.jsonl` and TensorBoard.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tensorboard::EventFile;
use crate::error::{Error, Result};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The step, counted from 1: after step 100 the checkpoint of 100 is written.
    pub step: u64,
    /// The phase of the step, when training has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Mean loss of the micro-batches; `None` if it was not finite.
    pub loss: Option<f64>,
    /// Its terms by name, unweighted; terms that are not finite are left out.
    pub terms: BTreeMap<String, f64>,
    /// The learning rate of the step.
    pub lr: f64,
    /// Norm of the gradient before clipping; None if it was not finite.
    pub grad_norm: Option<f64>,
    /// Tokens processed in the run so far.
    pub tokens: u64,
    /// Throughput of this step.
    pub tokens_per_s: f64,
    /// Training time so far in seconds, without the time between interruption and resumption.
    pub elapsed_s: f64,
    /// Steps of the run skipped so far because loss or gradient were not finite.
    pub skipped: u64,
    /// Trainable parameters without a gradient in this step.
    pub params_without_gradient: usize,
}

/// The metrics of a validation, another kind of line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Validation<'a> {
    step: u64,
    validation: std::borrow::Cow<'a, BTreeMap<String, f64>>,
}

/// Writes `metrics.jsonl` and `tensorboard/` of a run folder.
#[derive(Debug)]
pub(super) struct Recorder {
    lines: File,
    path: PathBuf,
    events: EventFile,
}

impl Recorder {
    /// Continues after `step`: lines of later steps are removed, because those steps run again.
    pub(super) fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join("metrics.jsonl");
        let mut lines = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| Error::io("opening the metrics", &path, &error))?;
        let text = std::fs::read(&path)
            .map_err(|error| Error::io("reading the metrics", &path, &error))?;
        let keep = length_up_to(&text, step);
        lines
            .set_len(keep)
            .and_then(|()| lines.seek(SeekFrom::End(0)))
            .map_err(|error| Error::io("shortening the metrics", &path, &error))?;
        let events = EventFile::create(&folder.join("tensorboard"), step + 1)?;
        Ok(Self { lines, path, events })
    }

    pub(super) fn step(&mut self, metrics: &StepMetrics) -> Result<()> {
        self.line(metrics)?;
        let terms = metrics.terms.iter().map(|(name, value)| (format!("train/{name}"), *value));
        let fixed = [
            ("train/loss", metrics.loss),
            ("train/grad_norm", metrics.grad_norm),
            ("train/lr", Some(metrics.lr)),
            ("train/tokens_per_s", Some(metrics.tokens_per_s)),
        ];
        let fixed = fixed.into_iter().filter_map(|(tag, value)| Some((tag.to_owned(), value?)));
        let scalars: BTreeMap<String, f64> = terms.chain(fixed).collect();
        self.events.scalars(metrics.step, scalars.iter().map(|(tag, value)| (tag.as_str(), *value)))
    }

    pub(super) fn validation(&mut self, step: u64, metrics: &BTreeMap<String, f64>) -> Result<()> {
        self.line(&Validation { step, validation: std::borrow::Cow::Borrowed(metrics) })?;
        let tags: Vec<String> = metrics.keys().map(|name| format!("validation/{name}")).collect();
        self.events.scalars(step, tags.iter().map(String::as_str).zip(metrics.values().copied()))
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)
            .map_err(|error| Error::internal(format!("metrics are not valid JSON: {error}")))?;
        line.push(b'\n');
        // One write, so that a kill leaves at most a half last line.
        self.lines
            .write_all(&line)
            .map_err(|error| Error::io("writing the metrics", &self.path, &error))
    }
}

#[derive(Deserialize)]
struct AnyLine {
    step: u64,
}

/// Length in bytes of the leading complete lines of steps up to `step`.
fn length_up_to(text: &[u8], step: u64) -> u64 {
    text.split_inclusive(|byte| *byte == b'\n')
        .take_while(|line| {
            line.ends_with(b"\n")
                && serde_json::from_slice::<AnyLine>(line).is_ok_and(|line| line.step <= step)
        })
        .map(|line| line.len() as u64)
        .sum()
}

/// The steps of a `metrics.jsonl`; validations and a half-written last line are skipped.
///
/// # Errors
/// The file cannot be read.
pub fn read_steps(path: &Path) -> Result<Vec<StepMetrics>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::io("reading the metrics", path, &error))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
