//! The content of a run folder that the page uses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::read::Label;

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
