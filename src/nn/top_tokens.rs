//! How far is a distribution from one of which only the likeliest tokens are known?
//!
//! The teacher's k likeliest tokens keep their probabilities; all others are one event, the tail.
//! KL is taken between the k + 1 events, so it is never above that over the whole vocabulary, and
//! equal to it when k is the vocabulary.

use super::head::{HeadWeights, Row, check_tokens, log_sum_exp};
use super::host;
use crate::error::{Error, Result};

/// The likeliest tokens of a distribution at every position, and what all others weigh together.
#[derive(Debug, Clone, PartialEq)]
pub struct TopTokens {
    /// k tokens a position, the likeliest first: B T k of them.
    pub ids: Vec<u32>,
    /// log p of each, in nats, at the temperature: B T k of them.
    pub log_p: Vec<f32>,
    /// log of the mass of all other tokens, in nats: B T of them; minus infinity: there are none.
    pub log_tail: Vec<f32>,
    /// The logits were divided by it.
    pub temperature: f32,
}

/// One position.
#[derive(Clone, Copy)]
pub(super) struct TopRow<'a> {
    pub(super) ids: &'a [u32],
    pub(super) log_p: &'a [f32],
    pub(super) log_tail: f32,
}

impl TopTokens {
    /// The `kept` likeliest tokens of some rows of logits, each `vocabulary` long.
    #[must_use]
    pub fn of_logits(logits: &[f32], vocabulary: usize, kept: usize, temperature: f32) -> Self {
        let kept = kept.clamp(1, vocabulary);
        let rows = logits.len() / vocabulary;
        let mut top = Self {
            ids: Vec::with_capacity(rows * kept),
            log_p: Vec::with_capacity(rows * kept),
            log_tail: Vec::with_capacity(rows),
            temperature,
        };
        let mut order: Vec<u32> = Vec::with_capacity(vocabulary);
        for logits in logits.chunks_exact(vocabulary) {
            let (_, log_sum) = host::vectorised(
                #[inline(always)]
                || log_sum_exp(logits, temperature),
            );
            let log_p = |id: u32| logits[id as usize] / temperature - log_sum;
            let highest_first = |a: &u32, b: &u32| {
                logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
            };
            order.clear();
            order.extend(0..vocabulary as u32);
            if kept < vocabulary {
                order.select_nth_unstable_by(kept - 1, highest_first);
            }
            let tail = order[kept..].iter().map(|&id| f64::from(log_p(id)).exp()).sum::<f64>();
            order[..kept].sort_unstable_by(highest_first);
            top.log_tail.push(tail.ln() as f32);
            top.log_p.extend(order[..kept].iter().map(|&id| log_p(id)));
            top.ids.extend_from_slice(&order[..kept]);
        }
        top
    }

    /// k, tokens kept at a position.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.ids.len() / self.log_tail.len().max(1)
    }

    /// Those at some positions.
    #[must_use]
    pub fn at(&self, positions: &[usize]) -> Self {
        let rows = || positions.iter().map(|&position| self.row(position));
        Self {
            ids: rows().flat_map(|row| row.ids.iter().copied()).collect(),
            log_p: rows().flat_map(|row| row.log_p.iter().copied()).collect(),
            log_tail: rows().map(|row| row.log_tail).collect(),
            temperature: self.temperature,
        }
    }

    pub(super) fn row(&self, position: usize) -> TopRow<'_> {
        let kept = self.kept();
        let span = position * kept..(position + 1) * kept;
        TopRow {
            ids: &self.ids[span.clone()],
            log_p: &self.log_p[span],
            log_tail: self.log_tail[position],
        }
    }

    /// Refuses tokens that do not stand for `positions` positions of a vocabulary.
    pub(super) fn check(
        &self,
        positions: usize,
        vocabulary: usize,
        temperature: f32,
    ) -> Result<()> {
        let kept = self.kept();
        let fits = self.log_tail.len() == positions
            && self.ids.len() == positions * kept
            && self.log_p.len() == self.ids.len()
            && (1..=vocabulary).contains(&kept);
        if !fits || (self.temperature - temperature).abs() > f32::EPSILON {
            return Err(Error::internal(format!(
                "{} tokens at temperature {} stand for {positions} positions at {temperature}",
                self.ids.len(),
                self.temperature
            )));
        }
        check_tokens(&self.ids, vocabulary)
    }
}

/// Turns a row of logits into its gradient, as the comparison with whole distributions does.
#[inline(always)]
pub(super) fn compare_with_top(
    logits: &mut [f32],
    top: TopRow<'_>,
    target: usize,
    weights: HeadWeights,
    scale: f32,
) -> Row {
    let (highest, log_sum) = log_sum_exp(logits, 1.0);
    let cross_entropy = log_sum - logits[target];
    let agree = logits[top.ids[0] as usize] >= highest;
    let inverse = 1.0 / weights.temperature;
    let own: Vec<f32> = top.ids.iter().map(|&id| logits[id as usize]).collect();
    let cold = if (weights.temperature - 1.0).abs() < f32::EPSILON {
        log_sum
    } else {
        log_sum_exp(logits, weights.temperature).1
    };
    // KL = sum_i p_i (ln p_i - ln q_i) over the k tokens and the tail
    let mut kl: f32 = (own.iter().zip(top.log_p))
        .map(|(own, log_p)| host::exp(*log_p) * (log_p - (own * inverse - cold)))
        .sum();
    // The tail of q alone: one minus the others would cancel.
    let mut tail_share = 0.0;
    if top.log_tail > f32::NEG_INFINITY && top.ids.len() < logits.len() {
        for &id in top.ids {
            logits[id as usize] = f32::NEG_INFINITY;
        }
        let log_tail = log_sum_exp(logits, weights.temperature).1 - cold;
        let p_tail = host::exp(top.log_tail);
        kl += p_tail * (top.log_tail - log_tail);
        tail_share = host::exp(top.log_tail - log_tail);
        for (&id, own) in top.ids.iter().zip(&own) {
            logits[id as usize] = *own;
        }
    }
    // dKL/dz_j = q_j - p_j, and q_j - p_tail q_j / q_tail in the tail; tau^2 of Hinton et al. 2015
    let ce = weights.cross_entropy * scale;
    let kl_scale = weights.kl * scale * weights.temperature;
    let of_tail = kl_scale * (1.0 - tail_share);
    for logit in logits.iter_mut() {
        *logit = ce * host::exp(*logit - log_sum) + of_tail * host::exp(*logit * inverse - cold);
    }
    for ((&id, own), log_p) in top.ids.iter().zip(&own).zip(top.log_p) {
        let q = host::exp(own * inverse - cold);
        logits[id as usize] = ce * host::exp(own - log_sum) + kl_scale * (q - host::exp(*log_p));
    }
    logits[target] -= ce;
    Row { cross_entropy, kl: kl.max(0.0), agree }
}
