//! The content of `law.json` that the page uses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fitted::Fitted;
use super::header::Header;
use super::read::Label;

/// How many repetitions are needed, by how much deeper the teacher is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Law {
    #[serde(flatten)]
    pub(super) header: Header,
    pub(super) target: Label,
    pub(super) exponent: Option<Fitted>,
    pub(super) width_exponent: Option<Fitted>,
    pub(super) form: Label,
    pub(super) forms: Vec<Formula>,
    pub(super) points: Vec<Needed>,
    pub(super) other_targets: Vec<OtherTarget>,
    pub(super) curves: Vec<Curve>,
    pub(super) controls: Vec<Control>,
    pub(super) baselines: Vec<Baseline>,
}

/// What another target takes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OtherTarget {
    pub(super) target: Label,
    pub(super) points: Vec<Needed>,
}

/// A formula that was fitted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Formula {
    pub(super) form: Label,
    pub(super) parameters: BTreeMap<String, f64>,
    pub(super) aicc: Option<f64>,
    pub(super) held_out: Option<f64>,
}

/// Which student learned what from whom.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cell {
    pub(super) task: Label,
    pub(super) trained: Label,
    pub(super) teacher: Label,
    pub(super) student: Label,
    pub(super) depth_ratio: Option<f64>,
    pub(super) width_ratio: Option<f64>,
}

/// The repetitions that one student needed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Needed {
    #[serde(flatten)]
    pub(super) cell: Cell,
    pub(super) needed: Range,
}

/// More than `low`, at most `high` if that was found.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
}

/// How good one student is by repetitions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Curve {
    #[serde(flatten)]
    pub(super) cell: Cell,
    pub(super) teacher_accuracy: Option<f64>,
    pub(super) repetitions: Vec<Option<f64>>,
    pub(super) accuracy: Vec<Option<f64>>,
    pub(super) kl_nats: Vec<Option<f64>>,
}

/// What a model does that repeats nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Control {
    pub(super) name: Label,
    pub(super) task: Label,
    pub(super) depth_ratio: Option<f64>,
    pub(super) width_ratio: Option<f64>,
    pub(super) accuracy: Option<f64>,
    pub(super) parameters: Option<f64>,
    pub(super) flops_ratio: Option<f64>,
}

/// What is right without any model.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Baseline {
    pub(super) task: Label,
    pub(super) chance: Option<f64>,
    pub(super) majority: Option<f64>,
    pub(super) copy_input: Option<f64>,
    pub(super) last_token: Option<f64>,
}

impl Cell {
    /// The tasks, and ways of training, that are shown apart.
    pub(super) fn panel(&self) -> (Label, Label) {
        (self.task.clone(), self.trained.clone())
    }

    /// Whether it is no control, of which another figure tells.
    pub(super) fn is_of_the_grid(&self) -> bool {
        !["untied", "scratch", "lora"].contains(&self.trained.0.as_str())
    }

    /// The panel in words.
    pub(super) fn panel_name(&self) -> String {
        let trained = match self.trained.0.as_str() {
            "at-n" => "trained at N",
            "random-n" => "trained at random N",
            other => other,
        };
        [self.task.0.as_str(), trained]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(", ")
    }
}
