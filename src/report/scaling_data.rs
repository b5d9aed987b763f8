//! The content of `scaling.json`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fitted::Fitted;
use super::header::Header;
use super::read::Label;

/// The content of `scaling.json` that the page uses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scaling {
    #[serde(flatten)]
    pub(super) header: Header,
    pub(super) laws: Vec<Law>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Law {
    pub(super) name: Label,
    pub(super) question: Label,
    pub(super) x_label: Label,
    pub(super) y_label: Label,
    pub(super) parameter: Label,
    #[serde(flatten)]
    pub(super) estimate: Fitted,
    pub(super) form: Label,
    pub(super) alternatives: Vec<Alternative>,
    pub(super) points: Vec<Measured>,
    pub(super) note: Label,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Alternative {
    pub(super) form: Label,
    pub(super) aicc: Option<f64>,
    pub(super) parameters: BTreeMap<String, f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Measured {
    pub(super) series: Label,
    pub(super) x: Option<f64>,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
    pub(super) y: Option<f64>,
}
