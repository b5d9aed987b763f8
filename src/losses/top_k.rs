//! The output loss against the top-k tokens of a teacher.
//!
//! The teacher's top-k tokens have their probabilities; all others are one event, the tail. KL is
//! taken between the k + 1 events, so it is at most the KL over the full vocabulary, and equal to it
//! when k is the vocabulary.

use super::terms::{HeadWeights, Row, TopRow, log_sum_exp};
use crate::kernels::host;

/// Replaces a row of logits by its gradient, and returns its terms.
#[inline(always)]
pub(crate) fn compare_with_top(
    logits: &mut [f32],
    top: TopRow<'_>,
    target: usize,
    weights: HeadWeights,
    scale: f32,
) -> Row {
    let (max, log_sum) = log_sum_exp(logits, 1.0);
    let cross_entropy = log_sum - logits[target];
    let agree = logits[top.ids[0] as usize] >= max;
    let inverse = 1.0 / weights.temperature;
    let top_logits: Vec<f32> = top.ids.iter().map(|&id| logits[id as usize]).collect();
    let tempered = if (weights.temperature - 1.0).abs() < f32::EPSILON {
        log_sum
    } else {
        log_sum_exp(logits, weights.temperature).1
    };
    // KL = sum_i p_i (ln p_i - ln q_i) over the k tokens and the tail
    let mut kl: f32 = (top_logits.iter().zip(top.log_p))
        .map(|(logit, log_p)| host::exp(*log_p) * (log_p - (logit * inverse - tempered)))
        .sum();
    // The tail of q is summed: one minus the others would cancel.
    let mut tail_share = 0.0;
    if top.log_tail > f32::NEG_INFINITY && top.ids.len() < logits.len() {
        for &id in top.ids {
            logits[id as usize] = f32::NEG_INFINITY;
        }
        let log_tail = log_sum_exp(logits, weights.temperature).1 - tempered;
        let p_tail = host::exp(top.log_tail);
        kl += p_tail * (top.log_tail - log_tail);
        tail_share = host::exp(top.log_tail - log_tail);
        for (&id, logit) in top.ids.iter().zip(&top_logits) {
            logits[id as usize] = *logit;
        }
    }
    // dKL/dz_j = q_j - p_j, and q_j - p_tail q_j / q_tail in the tail; tau^2 of Hinton et al. 2015
    let ce = weights.cross_entropy * scale;
    let kl_scale = weights.kl * scale * weights.temperature;
    let tail_factor = kl_scale * (1.0 - tail_share);
    for logit in logits.iter_mut() {
        *logit =
            ce * host::exp(*logit - log_sum) + tail_factor * host::exp(*logit * inverse - tempered);
    }
    for ((&id, logit), log_p) in top.ids.iter().zip(&top_logits).zip(top.log_p) {
        let q = host::exp(logit * inverse - tempered);
        logits[id as usize] = ce * host::exp(logit - log_sum) + kl_scale * (q - host::exp(*log_p));
    }
    logits[target] -= ce;
    Row { cross_entropy, kl: kl.max(0.0), agree }
}
