//! Configuration of a student: layers of each part, repetitions, and what differs between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::TransformerConfig;
use super::halting_head;
use super::injection::Injection;
use super::state_norm::StateNorm;
use crate::error::{Error, Result};
use crate::halting::JointPolicy;

/// Parameters that differ between repetitions of the core. Bae et al. 2024.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Relaxation {
    /// None: all repetitions share all parameters.
    #[default]
    None,
    /// Each repetition has a low-rank correction of every matrix, and its own norms and biases.
    Lora {
        /// Rank of the correction.
        rank: usize,
    },
    /// Each repetition has its own norms and biases.
    Norms,
}

/// Prelude, core x N, coda: the factorization of a stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoopedConfig {
    /// The unshared stack it was factored from; `layers` counts the teacher's.
    pub base: TransformerConfig,
    /// Layers before the core, not shared.
    pub prelude_layers: usize,
    /// K, layers of the core.
    pub core_layers: usize,
    /// N, repetitions of the core.
    pub repetitions: usize,
    /// Layers after the core, not shared.
    pub coda_layers: usize,
    /// Parameters that differ between repetitions.
    #[serde(default)]
    pub relaxation: Relaxation,
    /// Injection of the prelude's output into every repetition.
    #[serde(default, skip_serializing_if = "Injection::is_none")]
    pub injection: Injection,
    /// Norm of the state between two repetitions.
    #[serde(default, skip_serializing_if = "StateNorm::is_none", alias = "between")]
    pub state_norm: StateNorm,
    /// Policy of the halting head that is trained with the student.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<JointPolicy>,
}

impl LoopedConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of its range.
    pub fn validate(&self) -> Result<()> {
        self.base.validate()?;
        if self.core_layers == 0 || self.repetitions == 0 {
            return Err(Error::input(format!(
                "a core of {} layers x {} repetitions does nothing: expected 1 or more of both",
                self.core_layers, self.repetitions
            )));
        }
        if self.gate.is_some() && self.repetitions < 2 {
            return Err(Error::input("with 1 repetition a halting head has nothing to choose")
                .hint("raise student.repetitions, or leave out loss.halting"));
        }
        if self.repetitions > 1 << 16 {
            return Err(Error::input(format!("{} repetitions are too many", self.repetitions)));
        }
        let layers = self.prelude_layers + self.coda_layers + self.core_layers;
        if layers > self.base.layers {
            return Err(Error::input(format!(
                "prelude {} + core {} + coda {} are {layers} layers, the teacher has {}",
                self.prelude_layers, self.core_layers, self.coda_layers, self.base.layers
            ))
            .hint("a student has at most as many layers as its teacher"));
        }
        if self.relaxation == (Relaxation::Lora { rank: 0 }) {
            return Err(Error::input("a LoRA of rank 0 corrects nothing")
                .hint("write relaxation = { kind = \"none\" }"));
        }
        Ok(())
    }

    /// The teacher's layers that the core replaces.
    #[must_use]
    pub fn middle(&self) -> std::ops::Range<usize> {
        self.prelude_layers..self.base.layers - self.coda_layers
    }

    /// Whether the input of every application of a layer is the output of the previous one alone.
    #[must_use]
    pub fn is_chain(&self) -> bool {
        self.injection.is_none() && self.state_norm.is_none()
    }

    /// Applications of a layer at `repetitions`.
    #[must_use]
    pub fn applications(&self, repetitions: usize) -> usize {
        self.prelude_layers + self.core_layers * repetitions + self.coda_layers
    }

    /// Every tensor by name, with its shape.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let outer = self.base.outer_tensors();
        let mut tensors: Vec<_> =
            outer.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect();
        let parts = [
            ("prelude", self.prelude_layers),
            ("core", self.core_layers),
            ("coda", self.coda_layers),
        ];
        for (part, layers) in parts {
            for layer in 0..layers {
                for (name, shape) in self.base.layer_tensors() {
                    let name = format!("{part}.{layer}.{name}");
                    if part == "core" {
                        tensors.extend(self.relaxed(&name, &shape));
                    } else {
                        tensors.push((name, shape));
                    }
                }
            }
        }
        tensors.extend(self.injection.tensors(self.base.width));
        tensors.extend(self.state_norm.tensors(self.base.width));
        tensors.extend(halting_head::tensors(self.gate, self.base.width, self.repetitions));
        tensors
    }

    /// The tensors of the core's tensor `name`: the shared one with the corrections of each
    /// repetition, or the own vector of each repetition.
    fn relaxed(&self, name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
        let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "weight"));
        let repetitions = 0..self.repetitions;
        match (self.relaxation, shape) {
            (Relaxation::Lora { .. } | Relaxation::Norms, &[width]) => repetitions
                .map(|r| (format!("{stem}.repetition.{r}.{kind}"), vec![width]))
                .collect(),
            (Relaxation::Lora { rank }, &[out, inner]) => repetitions
                .flat_map(|r| {
                    let part = |part: &str| format!("{stem}.lora.{r}.{part}");
                    [(part("a"), vec![rank, inner]), (part("b"), vec![out, rank])]
                })
                .chain([(name.to_owned(), shape.to_vec())])
                .collect(),
            _ => vec![(name.to_owned(), shape.to_vec())],
        }
    }

    /// The teacher's layer that core layer `layer` replaces at `repetition`, counted from 0.
    #[must_use]
    pub fn aligned_layer(&self, repetition: usize, layer: usize) -> usize {
        let (middle, count) = (self.middle(), self.core_layers * self.repetitions);
        let application = repetition.min(self.repetitions - 1) * self.core_layers + layer;
        middle.start + (2 * application + 1) * middle.len() / (2 * count)
    }
}
