//! Memory of the stored activations of a step.

use crate::distill::depth::{DepthConfig, RepetitionSampling};
use crate::model::LoopedConfig;

/// States stored by the composed operations of an injection, in the gated form, which stores most.
const INJECTION_STATES: usize = 8;
/// States stored by a state norm: its input and its output.
const NORM_STATES: usize = 2;

/// Bytes of the f32 activations that `tokens` tokens store for the backward pass of the core, with
/// the largest number of repetitions that `depth` samples: the inputs of each layer's matrices and
/// norms, queries, keys and values, both halves of the mlp, the gradient of a compared state, and
/// the states stored by injection and state norm.
#[must_use]
pub fn activation_bytes(student: &LoopedConfig, depth: &DepthConfig, tokens: usize) -> u64 {
    let repetitions = match depth.sampling {
        RepetitionSampling::Fixed => student.repetitions,
        RepetitionSampling::Uniform { most, .. }
        | RepetitionSampling::PoissonLognormal { most, .. } => most,
    };
    let base = &student.base;
    let heads = (base.heads + 2 * base.kv_heads) * base.head_width;
    let layer = 6 * base.width + heads + 3 * base.mlp_width;
    let injection = if student.injection.is_none() { 0 } else { INJECTION_STATES * base.width };
    let norm = if student.state_norm.is_none() { 0 } else { NORM_STATES * base.width };
    let repetition = layer * student.core_layers + injection + norm;
    4 * tokens as u64 * repetitions as u64 * repetition as u64
}
