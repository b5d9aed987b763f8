//! A fitted law with the points it was fitted to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::fit::{Comparison, Estimate};
use crate::study::format::written;

/// What was measured at one place.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ScalingPoint {
    /// Which of several curves it is on.
    pub series: String,
    /// The length of the chain, the repetitions or the size.
    pub x: f64,
    /// What was measured, where it is a number.
    pub y: Option<f64>,
    /// Its lower bound.
    pub low: Option<f64>,
    /// Its upper bound; none where none of those tried were enough.
    pub high: Option<f64>,
    /// Of the point.
    pub seed: Option<u64>,
}

/// A form beside others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternative {
    /// Its name.
    pub form: String,
    /// The lower the better.
    pub aicc: Option<f64>,
    /// Its numbers.
    pub parameters: BTreeMap<String, f64>,
}

/// One law.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FittedLaw {
    /// What it is called.
    pub name: String,
    /// What it answers.
    pub question: String,
    /// What is drawn to the right.
    pub x_label: String,
    /// What is drawn upwards.
    pub y_label: String,
    /// The number that answers.
    pub parameter: String,
    /// It.
    pub estimate: Option<f64>,
    /// 2.5 % lie below.
    pub low: Option<f64>,
    /// 2.5 % lie above.
    pub high: Option<f64>,
    /// The form of the lowest AICc.
    pub form: Option<String>,
    /// Every form.
    pub alternatives: Vec<Alternative>,
    /// What was measured.
    pub points: Vec<ScalingPoint>,
    /// What else was found, or why something is absent.
    pub note: Option<String>,
    /// All that the fit says.
    pub details: serde_json::Value,
}

impl FittedLaw {
    /// With the number that answers.
    #[must_use]
    pub(crate) fn answer(mut self, parameter: &str, found: &Estimate) -> Self {
        parameter.clone_into(&mut self.parameter);
        (self.estimate, self.low, self.high) = (found.estimate, found.low, found.high);
        self.note = self.note.or_else(|| found.note.clone());
        self
    }

    /// With what a comparison of forms says.
    pub(crate) fn of_forms(mut self, found: &Comparison) -> Result<Self> {
        self.form = found.form.map(|form| written(&form));
        let alternative = |fit: &crate::fit::FormFit| Alternative {
            form: written(&fit.form),
            aicc: fit.aicc,
            parameters: fit.parameters.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
        };
        self.alternatives = found.forms.iter().map(alternative).collect();
        self.note.clone_from(&found.note);
        self.detailed(found)
    }

    /// With all that a fit says.
    pub(crate) fn detailed(mut self, found: &impl Serialize) -> Result<Self> {
        self.details = serde_json::to_value(found)
            .map_err(|error| Error::internal(format!("writing a fit: {error}")))?;
        Ok(self)
    }
}
