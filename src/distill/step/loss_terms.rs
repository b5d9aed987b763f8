//! The terms of a step's loss, their sum and its gradients.

use std::collections::BTreeMap;

use crate::autograd::{Gradients, Tape};
use crate::error::Result;
use crate::train::Loss;

/// A term of the loss: `weight * value`, whose gradient is on the tape, scaled by the same weight.
#[derive(Debug)]
pub(crate) struct LossTerm {
    pub(super) weight: f64,
    pub(super) value: f64,
    /// Unweighted quantities for the metrics; those of the same name are summed.
    pub(super) metrics: Vec<(&'static str, f64)>,
}

/// The sum of loss terms.
#[derive(Debug, Default)]
pub(crate) struct LossSum {
    total: f64,
    metrics: BTreeMap<String, f64>,
}

impl LossSum {
    /// Adds a term.
    pub(super) fn add(&mut self, term: LossTerm) {
        self.total += term.weight * term.value;
        for (name, value) in term.metrics {
            self.metric(name, value);
        }
    }

    /// Adds a quantity that is no part of the loss to the metrics.
    pub(super) fn metric(&mut self, name: &str, value: f64) {
        *self.metrics.entry(name.to_owned()).or_default() += value;
    }

    /// Runs the backward pass, unless the loss is not finite, and adds the terms that are complete
    /// only then.
    pub(super) fn finish(
        mut self,
        tape: Tape,
        late_terms: impl FnOnce() -> Vec<LossTerm>,
    ) -> Result<Loss> {
        let gradients = if self.total.is_finite() { tape.backward()? } else { Gradients::new() };
        for term in late_terms() {
            self.add(term);
        }
        Ok(Loss { total: self.total, terms: self.metrics, gradients, partial: false })
    }
}
