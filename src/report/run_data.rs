//! The content of a run folder that the page uses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::read::Label;
use crate::run::Provenance;

/// `eval.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Evaluation {
    pub(super) name: Label,
    pub(super) teacher_source: Label,
    pub(super) provenance: Option<Provenance>,
    pub(super) training: Option<Training>,
    pub(super) teacher: Teacher,
    pub(super) student: Vec<Score>,
    pub(super) trained_repetitions: Option<f64>,
    pub(super) teacher_cost: Option<Cost>,
    pub(super) student_cost: Option<Cost>,
    pub(super) untrained: Option<Score>,
    pub(super) samples: Vec<Sample>,
    pub(super) peak_rss_mib: Option<f64>,
}

/// How training went.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Training {
    pub(super) steps: Option<f64>,
    pub(super) tokens: Option<f64>,
    pub(super) seconds: Option<f64>,
    pub(super) skipped: Option<f64>,
}

/// A teacher on a text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Teacher {
    pub(super) perplexity: Option<f64>,
    pub(super) perplexity_interval: Ends,
}

/// A student on a text, at one number of repetitions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Score {
    pub(super) repetitions: Option<f64>,
    pub(super) perplexity: Option<f64>,
    pub(super) perplexity_interval: Ends,
    pub(super) kl_nats: Option<f64>,
    pub(super) kl_interval: Ends,
    pub(super) agreement: Option<f64>,
    pub(super) agreement_interval: Ends,
    pub(super) cosine: Option<f64>,
    pub(super) step_ratio: Option<f64>,
    pub(super) jacobian_norm: Option<f64>,
    pub(super) flops_per_token: Option<f64>,
}

/// An interval of 95 %, over documents.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ends {
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
}

/// What a model costs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cost {
    pub(super) parameters: Parameters,
    pub(super) effective_parameters: Parameters,
    pub(super) flops_per_token: Option<f64>,
    pub(super) tokens_per_s: Option<f64>,
}

/// Numbers that a model stores, or applies.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Parameters {
    pub(super) total: Option<f64>,
    pub(super) embedding: Option<f64>,
    pub(super) blocks: Option<f64>,
}

/// A prompt and how the models continue it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sample {
    pub(super) prompt: Label,
    pub(super) teacher: Label,
    pub(super) student: Label,
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MetricsLine {
    pub(super) step: Option<f64>,
    pub(super) phase: Option<String>,
    pub(super) loss: Option<f64>,
    pub(super) terms: BTreeMap<String, f64>,
    pub(super) validation: BTreeMap<String, f64>,
}

/// `halting.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Halting {
    pub(super) best: Label,
    pub(super) policies: Vec<Policy>,
}

/// A rule for when a token is done, and what was found for it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Policy {
    pub(super) threshold: Option<f64>,
    pub(super) curve: HaltingCurve,
}

/// What thresholds gave.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HaltingCurve {
    pub(super) policy: Label,
    pub(super) points: Vec<HaltingPoint>,
}

/// What one threshold gave.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HaltingPoint {
    pub(super) threshold: Option<f64>,
    pub(super) stops: Vec<Option<f64>>,
    pub(super) mean_repetitions: Option<f64>,
    pub(super) kl_nats: Option<f64>,
    pub(super) agreement: Option<f64>,
}

impl Policy {
    /// What the threshold gave that was chosen: the nearest one that was tried.
    pub(super) fn chosen(&self) -> Option<&HaltingPoint> {
        let chosen = self.threshold?;
        let distance = |point: &&HaltingPoint| {
            point.threshold.map_or(f64::INFINITY, |threshold| (threshold - chosen).abs())
        };
        self.curve.points.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}
