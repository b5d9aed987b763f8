//! Costs of a model: parameters stored and applied, arithmetic, time and memory.

use std::time::Instant;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::autograd::Tape;
use crate::error::Result;
use crate::model::{CausalLm, LoopedConfig, Parameters, Relaxation, TransformerConfig};

/// Costs of one model at its own number of repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCost {
    /// Parameters stored.
    #[serde(default)]
    pub parameters: Parameters,
    /// Parameters applied: the size of the unshared stack that computes the same.
    #[serde(default)]
    pub effective_parameters: Parameters,
    /// Floating point operations of the forward pass per token, by [`flops_per_token`] at the mean
    /// context of the evaluated windows.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub flops_per_token: f64,
    /// Speed of the forward pass over one window, head included.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub tokens_per_s: f64,
}

impl Default for ModelCost {
    fn default() -> Self {
        let (parameters, effective_parameters) = Default::default();
        let (flops_per_token, tokens_per_s) = (f64::NAN, f64::NAN);
        Self { parameters, effective_parameters, flops_per_token, tokens_per_s }
    }
}

impl ModelCost {
    /// Counts parameters and operations, and times the forward pass over `ids` (1, T).
    ///
    /// # Errors
    /// The device fails.
    pub fn measure(model: &dyn CausalLm, ids: &Tensor) -> Result<Self> {
        let (_, tokens) = ids.dims2()?;
        let (base, repetitions) = (model.base(), model.repetitions());
        let (parameters, effective_parameters) = match model.factorization() {
            None => (Parameters::of_stack(base), Parameters::of_stack(base)),
            Some(looped) => {
                (Parameters::of_student(looped), Parameters::effective(looped, repetitions))
            }
        };
        Ok(Self {
            parameters,
            effective_parameters,
            flops_per_token: flops_per_token(base, model.factorization(), repetitions, tokens),
            tokens_per_s: tokens as f64 / seconds(model, ids)?,
        })
    }
}

/// Seconds of the faster of two forward passes: the first one runs with cold caches.
fn seconds(model: &dyn CausalLm, ids: &Tensor) -> Result<f64> {
    let mut shortest = f64::INFINITY;
    for _ in 0..2 {
        let start = Instant::now();
        let states = model.states(&Tape::off(), ids, model.repetitions())?;
        let last = states.last().expect("there is always the embedding");
        // Reading one number waits for the device.
        model
            .embedding_and_head()
            .logits(last.tensor())?
            .flatten_all()?
            .get(0)?
            .to_device(&candle_core::Device::Cpu)?;
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    Ok(shortest.max(1e-9))
}

/// Floating point operations of the forward pass for one token of a window of `tokens`:
///
/// 2 W for every application of a matrix of W parameters (low-rank corrections included, as they are
/// computed: beside the matrix, not merged into it), 2 D V for the head, and for attention
/// 4 H `head_width` c per application, where c is the mean number of tokens that a token sees,
/// (T + 1) / 2 without a sliding window. Norms, rotations and pointwise steps are left out.
#[must_use]
pub fn flops_per_token(
    base: &TransformerConfig,
    looped: Option<&LoopedConfig>,
    repetitions: usize,
    tokens: usize,
) -> f64 {
    let matrices: Vec<[usize; 2]> = base
        .layer_tensors()
        .into_iter()
        .filter_map(|(_, shape)| <[usize; 2]>::try_from(shape).ok())
        .collect();
    let layer: usize = matrices.iter().map(|[out, inner]| out * inner).sum();
    let corrections: usize = match looped.map(|looped| looped.relaxation) {
        Some(Relaxation::Lora { rank }) => {
            matrices.iter().map(|[out, inner]| rank * (out + inner)).sum()
        }
        _ => 0,
    };
    let attention = |layer: usize| {
        4.0 * (base.heads * base.head_width) as f64 * seen(base.window(layer), tokens)
    };
    let applied: Vec<usize> = looped
        .map_or_else(|| (0..base.layers).collect(), |looped| looped.applied_layers(repetitions));
    let corrected = looped.map_or(0, |looped| looped.core_layers * repetitions * corrections);
    2.0 * (applied.len() * layer + corrected + base.width * base.vocabulary) as f64
        + applied.into_iter().map(attention).sum::<f64>()
}

/// The mean over a window of the tokens that a token sees, itself included.
fn seen(window: Option<usize>, tokens: usize) -> f64 {
    let window = window.unwrap_or(tokens).min(tokens) as f64;
    // 1 + 2 + .. + w, then w for each of the rest.
    (window * (window + 1.0) / 2.0 + window * (tokens as f64 - window)) / tokens as f64
}

/// Peak resident memory of this process; none where the system does not report it (only Linux
/// does).
#[must_use]
pub fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Memory that can be allocated now without swapping; none where the system does not report it
/// (only Linux does).
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
