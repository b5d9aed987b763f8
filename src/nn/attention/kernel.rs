//! The operation on the tape, and its CPU kernel.
//!
//! Scores are computed in blocks of queries. Only the log-sum-exp of each row is stored for the
//! backward pass, never a T x T matrix. Dao et al. 2022.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::composed::composed;
use super::shape::AttentionShape;
use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::gemm::{HeadPart, Into, Matrix, Threads, head_parts, product};
use crate::kernels::host::{self, Host};

/// Queries of one block of scores.
const BLOCK: usize = 64;

/// Sizes of the operands.
#[derive(Clone, Copy)]
struct Sizes {
    queries: usize,
    keys: usize,
    heads: usize,
    kv_heads: usize,
    width: usize,
    shape: AttentionShape,
}

impl Sizes {
    /// Rows of one head of `x`, (B, tokens, heads, width).
    fn rows<'a>(
        &self,
        x: &'a [f32],
        (batch, head): (usize, usize),
        (tokens, heads): (usize, usize),
        rows: Range<usize>,
    ) -> Matrix<'a> {
        let stride = heads * self.width;
        let start = (batch * tokens + rows.start) * stride + head * self.width;
        Matrix::strided(&x[start..], rows.len(), self.width, stride)
    }

    fn queries<'a>(&self, x: &'a [f32], head: (usize, usize), rows: Range<usize>) -> Matrix<'a> {
        self.rows(x, head, (self.queries, self.heads), rows)
    }

    fn keys<'a>(&self, x: &'a [f32], head: (usize, usize), rows: Range<usize>) -> Matrix<'a> {
        self.rows(x, head, (self.keys, self.kv_heads), rows)
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let queries = self.queries;
        (0..queries).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(queries))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// The forward pass of one head, given by batch and head: writes `output` and returns the
    /// log-sum-exp of the scores of each query, (T).
    fn forward(
        &self,
        (q, k, v): (&[f32], &[f32], &[f32]),
        head: (usize, usize),
        output: &mut HeadPart<'_>,
    ) -> Vec<f32> {
        let kv_head = (head.0, head.1 * self.kv_heads / self.heads);
        let mut log_sums = vec![0.0; self.queries];
        let mut scores = Vec::new();
        for rows in self.blocks() {
            let keys = self.shape.keys_of(&rows);
            let k = self.keys(k, kv_head, keys.clone());
            scores.resize(rows.len() * keys.len(), 0.0);
            let q = self.queries(q, head, rows.clone());
            product(&mut scores, Into::Replace, self.scale(), q, k.transposed(), Threads::One);
            let log_sums = &mut log_sums[rows.clone()];
            host::vectorised(
                #[inline(always)]
                || {
                    let score_rows = scores.chunks_exact_mut(keys.len()).zip(log_sums);
                    for (row, (scores, log_sum)) in score_rows.enumerate() {
                        let visible = self.shape.keys(rows.start + row);
                        let visible = visible.start - keys.start..visible.end - keys.start;
                        *log_sum = softmax(scores, visible);
                    }
                },
            );
            let weights = Matrix::new(&scores, rows.len(), keys.len());
            output.product(rows.start, Into::Replace, 1.0, weights, self.keys(v, kv_head, keys));
        }
        log_sums
    }
}

/// Replaces the visible scores by their softmax and the others by 0; returns the log-sum-exp.
#[inline(always)]
pub(super) fn softmax(scores: &mut [f32], visible: Range<usize>) -> f32 {
    let wide = widened(&visible, scores.len());
    mask(scores, &visible, &wide, f32::NEG_INFINITY);
    let max = host::max(&scores[wide.clone()]);
    for score in &mut scores[wide.clone()] {
        *score = host::exp(*score - max);
    }
    mask(scores, &visible, &wide, 0.0);
    let scores = &mut scores[wide];
    let sum = host::sum_of(
        scores,
        #[inline(always)]
        |score| score,
    );
    let scale = 1.0 / sum;
    for score in scores.iter_mut() {
        *score *= scale;
    }
    max + sum.ln()
}

/// The least range around `visible` whose ends are multiples of 16, for vectorised loops.
#[inline(always)]
fn widened(visible: &Range<usize>, length: usize) -> Range<usize> {
    visible.start / 16 * 16..visible.end.next_multiple_of(16).min(length)
}

/// Sets the scores outside `visible` to `value` within `wide`, and to 0 outside of that.
#[inline(always)]
fn mask(scores: &mut [f32], visible: &Range<usize>, wide: &Range<usize>, value: f32) {
    scores[..wide.start].fill(0.0);
    scores[wide.start..visible.start].fill(value);
    scores[visible.end..wide.end].fill(value);
    scores[wide.end..].fill(0.0);
}

/// Stored activations of the backward pass.
struct Saved {
    sizes: Sizes,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    log_sums: Vec<Vec<f32>>,
}

/// Gradients of the heads that share one key head.
struct GroupParts<'a> {
    q: Vec<HeadPart<'a>>,
    k: HeadPart<'a>,
    v: HeadPart<'a>,
}

impl Saved {
    /// The backward pass of the query heads that share one key head.
    fn backward_group(
        &self,
        gradient: &[f32],
        (batch, kv_head): (usize, usize),
        d: GroupParts<'_>,
    ) -> Result<()> {
        let s = &self.sizes;
        let (q, k, v) = (Host::new(&self.q)?, Host::new(&self.k)?, Host::new(&self.v)?);
        let output = Host::new(&self.output)?;
        let (q, k, v, output): (&[f32], &[f32], &[f32], &[f32]) = (&q, &k, &v, &output);
        let GroupParts { q: d_q, k: mut d_k, v: mut d_v } = d;
        let (mut weights, mut d_weights) = (Vec::new(), Vec::new());
        for (head, mut d_q) in (kv_head * s.heads / s.kv_heads..).zip(d_q) {
            let query_head = (batch, head);
            let log_sums = &self.log_sums[batch * s.heads + head];
            for rows in s.blocks() {
                let keys = s.shape.keys_of(&rows);
                let k_rows = s.keys(k, (batch, kv_head), keys.clone());
                let v_rows = s.keys(v, (batch, kv_head), keys.clone()).transposed();
                let q_rows = s.queries(q, query_head, rows.clone());
                let d_out = s.queries(gradient, query_head, rows.clone());
                weights.resize(rows.len() * keys.len(), 0.0);
                d_weights.resize(rows.len() * keys.len(), 0.0);
                let (thread, replace) = (Threads::One, Into::Replace);
                product(&mut weights, replace, s.scale(), q_rows, k_rows.transposed(), thread);
                product(&mut d_weights, replace, 1.0, d_out, v_rows, thread);
                host::vectorised(
                    #[inline(always)]
                    || {
                        for (index, row) in rows.clone().enumerate() {
                            let visible = s.shape.keys(row);
                            let visible = visible.start - keys.start..visible.end - keys.start;
                            let span = index * keys.len()..(index + 1) * keys.len();
                            let start = ((batch * s.queries + row) * s.heads + head) * s.width;
                            let row_range = start..start + s.width;
                            let mean = host::dot(&gradient[row_range.clone()], &output[row_range]);
                            let (weights, d) = (&mut weights[span.clone()], &mut d_weights[span]);
                            softmax_backward(weights, d, visible, log_sums[row], mean);
                        }
                    },
                );
                let p = Matrix::new(&weights, rows.len(), keys.len());
                let d_scores = Matrix::new(&d_weights, rows.len(), keys.len());
                d_v.product(keys.start, Into::Add, 1.0, p.transposed(), d_out);
                d_q.product(rows.start, Into::Replace, s.scale(), d_scores, k_rows);
                d_k.product(keys.start, Into::Add, s.scale(), d_scores.transposed(), q_rows);
            }
        }
        Ok(())
    }

    /// Gradients of q, k and v, in their shapes.
    fn backward(&self, gradient: &[f32]) -> Result<[Vec<f32>; 3]> {
        let s = &self.sizes;
        let (mut d_q, mut d_k) =
            (host::zeros(self.q.elem_count()), host::zeros(self.k.elem_count()));
        let mut d_v = host::zeros(self.v.elem_count());
        let batch = self.q.dim(0)?;
        let key_shape = (batch, s.keys, s.kv_heads, s.width);
        let mut q = head_parts(&mut d_q, (batch, s.queries, s.heads, s.width)).into_iter();
        let k = head_parts(&mut d_k, key_shape);
        let v = head_parts(&mut d_v, key_shape);
        let group = s.heads / s.kv_heads;
        let parts: Vec<GroupParts<'_>> = k
            .into_iter()
            .zip(v)
            .map(|(k, v)| GroupParts { q: q.by_ref().take(group).collect(), k, v })
            .collect();
        parts.into_par_iter().enumerate().try_for_each(|(index, parts)| {
            self.backward_group(gradient, (index / s.kv_heads, index % s.kv_heads), parts)
        })?;
        Ok([d_q, d_k, d_v])
    }
}

/// Replaces scores by weights, and gradients of weights by gradients of scores; `mean` is the dot
/// product of the row's output with its gradient.
// p_i = exp(s_i - log_sum), ds_i = p_i (dp_i - sum_j p_j dp_j) and sum_j p_j dp_j = o . do; Dao et
// al. 2022
#[inline(always)]
fn softmax_backward(
    scores: &mut [f32],
    d_weights: &mut [f32],
    visible: Range<usize>,
    log_sum: f32,
    mean: f32,
) {
    let wide = widened(&visible, scores.len());
    for (score, d) in scores[wide.clone()].iter_mut().zip(&mut d_weights[wide.clone()]) {
        *score = host::exp(*score - log_sum);
        *d = *score * (*d - mean);
    }
    mask(scores, &visible, &wide, 0.0);
    mask(d_weights, &visible, &wide, 0.0);
}

/// Causal softmax attention with grouped key heads: q (B, T, H, head width), k and v
/// (B, keys, kv heads, head width) to (B, T, H, head width). Vaswani et al. 2017; Ainslie et al.
/// 2023.
///
/// # Errors
/// The shapes of q, k and v do not match each other or `shape`.
pub fn attention(
    tape: &Tape,
    q: &Value,
    k: &Value,
    v: &Value,
    shape: AttentionShape,
) -> Result<Value> {
    let (batch, queries, heads, width) = q.tensor().dims4()?;
    let (_, keys, kv_heads, _) = k.tensor().dims4()?;
    if keys != shape.start + queries || !heads.is_multiple_of(kv_heads) {
        return Err(Error::internal(format!(
            "{queries} queries from {} over {keys} keys, {heads} heads over {kv_heads}",
            shape.start
        )));
    }
    if !tape.has_cpu_kernel(q.tensor()) {
        return tape.composed(&[q, k, v], &[], |x, _| composed(&x[0], &x[1], &x[2], &shape));
    }
    let sizes = Sizes { queries, keys, heads, kv_heads, width, shape };
    let (q_tensor, k_tensor, v_tensor) =
        (q.tensor().contiguous()?, k.tensor().contiguous()?, v.tensor().contiguous()?);
    let mut output = host::zeros(batch * queries * heads * width);
    let log_sums: Vec<Vec<f32>> = {
        let (q, k, v) = (Host::new(&q_tensor)?, Host::new(&k_tensor)?, Host::new(&v_tensor)?);
        let inputs: (&[f32], &[f32], &[f32]) = (&q, &k, &v);
        head_parts(&mut output, (batch, queries, heads, width))
            .into_par_iter()
            .enumerate()
            .map(|(i, mut part)| sizes.forward(inputs, (i / heads, i % heads), &mut part))
            .collect()
    };
    let output = host::tensor(output, q_tensor.shape())?;
    if !tape.requires_grad(&[q, k, v], &[]) {
        return Ok(Value::constant(output));
    }
    let slots = [q.slot(), k.slot(), v.slot()];
    let (q, k, v) = (q_tensor, k_tensor, v_tensor);
    let saved = Saved { sizes, q, k, v, output: output.clone(), log_sums };
    Ok(tape.push(output, move |gradient, backward| {
        let gradients = saved.backward(&Host::new(&gradient.contiguous()?)?)?;
        let shapes = [saved.q.shape(), saved.k.shape(), saved.v.shape()];
        for ((slot, gradient), shape) in slots.into_iter().zip(gradients).zip(shapes) {
            backward.add_vec(slot, gradient, shape)?;
        }
        Ok(())
    }))
}
