//! How much memory does the graph of a step take when every repetition keeps its own?

use crate::distill::depth::{DepthConfig, RepetitionSampling};
use crate::model::LoopedConfig;

/// States that the composed operations of an injection keep: of the gate, which keeps most.
const INJECTED: usize = 8;
/// States that a norm between repetitions keeps: what went into it, and what came out of it.
const NORMED: usize = 2;

/// Bytes that `tokens` tokens keep of the core's repetitions until the way back, with the most
/// repetitions `depth` draws: what each layer's matrices and norms were applied to, queries, keys
/// and values, both halves of the mlp, and the gradient of a compared state; what an injection is
/// composed of and a norm between repetitions besides; in f32.
#[must_use]
pub fn graph_bytes(student: &LoopedConfig, depth: &DepthConfig, tokens: usize) -> u64 {
    let most = match depth.sampling {
        RepetitionSampling::Fixed => student.repetitions,
        RepetitionSampling::Uniform { most, .. }
        | RepetitionSampling::PoissonLognormal { most, .. } => most,
    };
    let base = &student.base;
    let heads = (base.heads + 2 * base.kv_heads) * base.head_width;
    let numbers = 6 * base.width + heads + 3 * base.mlp_width;
    let injected = if student.injection.is_none() { 0 } else { INJECTED * base.width };
    let normed = if student.state_norm.is_none() { 0 } else { NORMED * base.width };
    let numbers = numbers * student.core_layers + injected + normed;
    4 * tokens as u64 * most as u64 * numbers as u64
}
