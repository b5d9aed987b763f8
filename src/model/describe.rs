//! Parameter counts and the description that `inspect` prints.

use serde::{Deserialize, Serialize};

use super::config::{RopeScaling, TransformerConfig};
use super::injection::Injection;
use super::looped_config::{LoopedConfig, Relaxation};
use super::state_norm::StateNorm;
use crate::halting::JointPolicy;

/// Parameter counts of a model. The final norm is in the total alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parameters {
    /// All parameters.
    pub total: usize,
    /// The embedding and, unless it is tied, the head.
    pub embedding: usize,
    /// The layers, with the relaxation of each repetition.
    pub blocks: usize,
}

impl Parameters {
    /// Parameters of an unshared stack.
    #[must_use]
    pub fn of_stack(config: &TransformerConfig) -> Self {
        Self::around(config, config.layers * config.layer_parameters())
    }

    /// Stored parameters of a student: shared ones count once.
    #[must_use]
    pub fn of_student(config: &LoopedConfig) -> Self {
        let outer: Vec<&str> =
            config.base.outer_tensors().into_iter().map(|(name, _)| name).collect();
        let tensors = config.tensors().into_iter();
        let blocks = tensors.filter(|(name, _)| !outer.contains(&name.as_str()));
        Self::around(&config.base, blocks.map(|(_, shape)| shape.iter().product::<usize>()).sum())
    }

    /// Applied parameters of a student: those of the core count once for each repetition, as in the
    /// equivalent unshared stack.
    #[must_use]
    pub fn effective(config: &LoopedConfig, repetitions: usize) -> Self {
        let applied = config.applications(repetitions) * config.base.layer_parameters();
        Self::around(&config.base, applied)
    }

    fn around(config: &TransformerConfig, blocks: usize) -> Self {
        let outer = config.outer_tensors().into_iter();
        let sizes: Vec<(bool, usize)> =
            outer.map(|(name, shape)| (name == "norm.weight", shape.iter().product())).collect();
        let count = |norm: bool| {
            sizes.iter().filter(|(is_norm, _)| *is_norm == norm).map(|(_, n)| n).sum::<usize>()
        };
        let (embedding, norm) = (count(false), count(true));
        Self { total: embedding + norm + blocks, embedding, blocks }
    }
}

/// The description of a checkpoint that `inspect` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Published family.
    pub family: String,
    /// L; for a student, the layers it applies at its N repetitions.
    pub layers: usize,
    /// D.
    pub width: usize,
    /// H.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Inner width of the gated mlp.
    #[serde(default)]
    pub mlp_width: usize,
    /// V.
    pub vocabulary: usize,
    /// Whether the output head is the embedding.
    #[serde(default)]
    pub tied_head: bool,
    /// Context length: the longest sequence, in tokens.
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    #[serde(default)]
    pub rope_theta: f64,
    /// How they are stretched.
    #[serde(default)]
    pub rope_scaling: RopeScaling,
    /// Stored parameters.
    pub parameters: Parameters,
    /// Factorization of a student.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub student: Option<Factorization>,
}

/// The factorization of a student.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Factorization {
    /// Layers before the core.
    pub prelude: usize,
    /// K, layers of the core.
    pub core: usize,
    /// Layers after the core.
    pub coda: usize,
    /// N.
    pub repetitions: usize,
    /// Parameters that differ between repetitions.
    pub relaxation: Relaxation,
    /// Injection of the prelude's output into every repetition.
    #[serde(default)]
    pub injection: Injection,
    /// Norm of the state between two repetitions.
    #[serde(default)]
    #[serde(rename = "between")]
    pub state_norm: StateNorm,
    /// Policy of the halting head that was trained with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<JointPolicy>,
    /// L of the stack it was factored from.
    pub teacher_layers: usize,
    /// Parameters applied at N repetitions.
    pub effective_parameters: Parameters,
    /// Parameters of its layers divided by those of `teacher_layers` unshared layers of its width.
    pub size_ratio: f64,
    /// The same ratio with embeddings and head included.
    pub size_ratio_with_embeddings: f64,
}

impl Description {
    /// Describes an unshared stack, or the student factored from it.
    #[must_use]
    pub fn new(base: &TransformerConfig, looped: Option<&LoopedConfig>) -> Self {
        Self {
            family: base.family.clone(),
            layers: looped.map_or(base.layers, |looped| looped.applications(looped.repetitions)),
            width: base.width,
            heads: base.heads,
            kv_heads: base.kv_heads,
            head_width: base.head_width,
            mlp_width: base.mlp_width,
            vocabulary: base.vocabulary,
            tied_head: base.tied_head,
            max_positions: base.max_positions,
            rope_theta: base.rope_theta,
            rope_scaling: base.rope_scaling.clone(),
            parameters: looped.map_or_else(|| Parameters::of_stack(base), Parameters::of_student),
            student: looped.map(Factorization::new),
        }
    }
}

impl Factorization {
    fn new(config: &LoopedConfig) -> Self {
        let (own, teacher) = (Parameters::of_student(config), Parameters::of_stack(&config.base));
        Self {
            prelude: config.prelude_layers,
            core: config.core_layers,
            coda: config.coda_layers,
            repetitions: config.repetitions,
            relaxation: config.relaxation,
            injection: config.injection,
            state_norm: config.state_norm,
            gate: config.gate,
            teacher_layers: config.base.layers,
            effective_parameters: Parameters::effective(config, config.repetitions),
            size_ratio: own.blocks as f64 / teacher.blocks as f64,
            size_ratio_with_embeddings: own.total as f64 / teacher.total as f64,
        }
    }
}
