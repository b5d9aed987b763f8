//! Batches of windows, their inputs and their targets.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::data::EvaluationWindow;
use crate::error::Result;

/// Groups windows of equal length into batches of at most `rows`, longest first.
pub(super) fn batches(windows: &[EvaluationWindow], rows: usize) -> Vec<Vec<&EvaluationWindow>> {
    let mut by_length: BTreeMap<usize, Vec<&EvaluationWindow>> = BTreeMap::new();
    for window in windows {
        by_length.entry(window.tokens.len()).or_default().push(window);
    }
    by_length.values().rev().flat_map(|same| same.chunks(rows).map(<[_]>::to_vec)).collect()
}

/// Inputs: all but the last token of every window, (B, T).
pub(super) fn inputs(batch: &[&EvaluationWindow], device: &Device) -> Result<Tensor> {
    let tokens = batch[0].tokens.len() - 1;
    let ids: Vec<u32> = batch.iter().flat_map(|window| &window.tokens[..tokens]).copied().collect();
    Ok(Tensor::from_vec(ids, (batch.len(), tokens), device)?)
}

/// Targets: all but the first token of every window, B T of them.
pub(super) fn targets(batch: &[&EvaluationWindow]) -> Vec<u32> {
    batch.iter().flat_map(|window| &window.tokens[1..]).copied().collect()
}
