//! A fitted law with the points it was fitted to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::fit::{Comparison, Estimate};
use crate::study::format::written;

/// One measured point.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ScalingPoint {
    /// Name of its curve.
    pub series: String,
    /// The length of the chain, the repetitions or the size.
    pub x: f64,
    /// The measured value, where it is a number.
    pub y: Option<f64>,
    /// Its lower bound.
    pub low: Option<f64>,
    /// Its upper bound; `None` where none of those tried sufficed.
    pub high: Option<f64>,
    /// Seed of the point.
    pub seed: Option<u64>,
}

/// A fitted form, for comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternative {
    /// Its name.
    pub form: String,
    /// AICc; lower is better.
    pub aicc: Option<f64>,
    /// Its parameters.
    pub parameters: BTreeMap<String, f64>,
}

/// One law.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FittedLaw {
    /// Its name.
    pub name: String,
    /// The question it answers.
    pub question: String,
    /// Label of the x axis.
    pub x_label: String,
    /// Label of the y axis.
    pub y_label: String,
    /// The parameter that answers the question.
    pub parameter: String,
    /// Its estimate.
    pub estimate: Option<f64>,
    /// Lower end of the 95 % interval.
    pub low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub high: Option<f64>,
    /// The form of the lowest AICc.
    pub form: Option<String>,
    /// Every form.
    pub alternatives: Vec<Alternative>,
    /// The measured points.
    pub points: Vec<ScalingPoint>,
    /// A remark, or the reason why something is absent.
    pub note: Option<String>,
    /// The complete result of the fit.
    pub details: serde_json::Value,
}

impl FittedLaw {
    /// Sets the parameter that answers the question.
    #[must_use]
    pub(crate) fn answer(mut self, parameter: &str, value: &Estimate) -> Self {
        parameter.clone_into(&mut self.parameter);
        (self.estimate, self.low, self.high) = (value.estimate, value.low, value.high);
        self.note = self.note.or_else(|| value.note.clone());
        self
    }

    /// Sets the forms of a comparison.
    pub(crate) fn of_forms(mut self, comparison: &Comparison) -> Result<Self> {
        self.form = comparison.form.map(|form| written(&form));
        let alternative = |fit: &crate::fit::FormFit| Alternative {
            form: written(&fit.form),
            aicc: fit.aicc,
            parameters: fit.parameters.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
        };
        self.alternatives = comparison.forms.iter().map(alternative).collect();
        self.note.clone_from(&comparison.note);
        self.detailed(comparison)
    }

    /// Sets the complete result of the fit.
    pub(crate) fn detailed(mut self, fit: &impl Serialize) -> Result<Self> {
        self.details = serde_json::to_value(fit)
            .map_err(|error| Error::internal(format!("writing a fit: {error}")))?;
        Ok(self)
    }
}
