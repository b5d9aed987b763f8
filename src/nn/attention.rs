//! Which earlier tokens does a token read?
//!
//! Softmax attention in blocks of queries. Only the log-sum-exp of each row is kept for the way
//! back, never a T x T matrix. Dao et al. 2022.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::reference;
use super::shapes::AttentionShape;
use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::gemm::{HeadPart, Into, Matrix, Threads, head_parts, product};
use crate::kernels::host::{self, Host};

/// Queries that share one block of scores.
const BLOCK: usize = 64;

/// Sizes of one call.
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
    /// The rows of head `head` of `x`, (B, tokens, heads, width), from row `rows.start`.
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

    fn queries<'a>(&self, x: &'a [f32], at: (usize, usize), rows: Range<usize>) -> Matrix<'a> {
        self.rows(x, at, (self.queries, self.heads), rows)
    }

    fn keys<'a>(&self, x: &'a [f32], at: (usize, usize), rows: Range<usize>) -> Matrix<'a> {
        self.rows(x, at, (self.keys, self.kv_heads), rows)
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let queries = self.queries;
        (0..queries).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(queries))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// One head: its outputs into `output`; gives the log-sum-exp of each row's scores, (T).
    fn forward(
        &self,
        (q, k, v): (&[f32], &[f32], &[f32]),
        at: (usize, usize),
        output: &mut HeadPart<'_>,
    ) -> Vec<f32> {
        let kv = (at.0, at.1 * self.kv_heads / self.heads);
        let mut log_sums = vec![0.0; self.queries];
        let mut scores = Vec::new();
        for rows in self.blocks() {
            let keys = self.shape.keys_of(&rows);
            let k = self.keys(k, kv, keys.clone());
            scores.resize(rows.len() * keys.len(), 0.0);
            let q = self.queries(q, at, rows.clone());
            product(&mut scores, Into::Replace, self.scale(), q, k.transposed(), Threads::One);
            let log_sums = &mut log_sums[rows.clone()];
            host::vectorised(
                #[inline(always)]
                || {
                    let each = scores.chunks_exact_mut(keys.len()).zip(log_sums);
                    for (row, (scores, log_sum)) in each.enumerate() {
                        let seen = self.shape.keys(rows.start + row);
                        *log_sum = softmax(scores, seen.start - keys.start..seen.end - keys.start);
                    }
                },
            );
            let weights = Matrix::new(&scores, rows.len(), keys.len());
            output.product(rows.start, Into::Replace, 1.0, weights, self.keys(v, kv, keys));
        }
        log_sums
    }
}

/// Turns the scores seen into weights that sum to one, the others into 0; gives the log-sum-exp.
#[inline(always)]
fn softmax(scores: &mut [f32], seen: Range<usize>) -> f32 {
    let wide = widened(&seen, scores.len());
    hide(scores, &seen, &wide, f32::NEG_INFINITY);
    let highest = host::highest(&scores[wide.clone()]);
    for score in &mut scores[wide.clone()] {
        *score = host::exp(*score - highest);
    }
    hide(scores, &seen, &wide, 0.0);
    let scores = &mut scores[wide];
    let sum = host::sum_of(
        scores,
        #[inline(always)]
        |score| score,
    );
    let share = 1.0 / sum;
    for score in scores.iter_mut() {
        *score *= share;
    }
    highest + sum.ln()
}

/// The least span around `seen` that loops take in sixteens.
#[inline(always)]
fn widened(seen: &Range<usize>, length: usize) -> Range<usize> {
    seen.start / 16 * 16..seen.end.next_multiple_of(16).min(length)
}

/// Sets what is not `seen` to `value` within `wide`, and to 0 outside.
#[inline(always)]
fn hide(scores: &mut [f32], seen: &Range<usize>, wide: &Range<usize>, value: f32) {
    scores[..wide.start].fill(0.0);
    scores[wide.start..seen.start].fill(value);
    scores[seen.end..wide.end].fill(value);
    scores[wide.end..].fill(0.0);
}

/// What the way back needs.
struct Saved {
    sizes: Sizes,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    log_sums: Vec<Vec<f32>>,
}

/// Where the gradients of the heads that share one key head go.
struct GroupParts<'a> {
    q: Vec<HeadPart<'a>>,
    k: HeadPart<'a>,
    v: HeadPart<'a>,
}

impl Saved {
    fn group(
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
            let at = (batch, head);
            let log_sums = &self.log_sums[batch * s.heads + head];
            for rows in s.blocks() {
                let keys = s.shape.keys_of(&rows);
                let k_rows = s.keys(k, (batch, kv_head), keys.clone());
                let v_rows = s.keys(v, (batch, kv_head), keys.clone()).transposed();
                let q_rows = s.queries(q, at, rows.clone());
                let d_out = s.queries(gradient, at, rows.clone());
                weights.resize(rows.len() * keys.len(), 0.0);
                d_weights.resize(rows.len() * keys.len(), 0.0);
                let (one, replace) = (Threads::One, Into::Replace);
                product(&mut weights, replace, s.scale(), q_rows, k_rows.transposed(), one);
                product(&mut d_weights, replace, 1.0, d_out, v_rows, one);
                host::vectorised(
                    #[inline(always)]
                    || {
                        for (index, row) in rows.clone().enumerate() {
                            let seen = s.shape.keys(row);
                            let seen = seen.start - keys.start..seen.end - keys.start;
                            let span = index * keys.len()..(index + 1) * keys.len();
                            let start = ((batch * s.queries + row) * s.heads + head) * s.width;
                            let out = start..start + s.width;
                            let mean = host::dot(&gradient[out.clone()], &output[out]);
                            let (weights, d) = (&mut weights[span.clone()], &mut d_weights[span]);
                            softmax_back(weights, d, seen, log_sums[row], mean);
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

    /// Gradients of q, k and v, each in its own shape.
    fn back(&self, gradient: &[f32]) -> Result<[Vec<f32>; 3]> {
        let s = &self.sizes;
        let (mut d_q, mut d_k) =
            (host::zeros(self.q.elem_count()), host::zeros(self.k.elem_count()));
        let mut d_v = host::zeros(self.v.elem_count());
        let batch = self.q.dim(0)?;
        let of_keys = (batch, s.keys, s.kv_heads, s.width);
        let mut q = head_parts(&mut d_q, (batch, s.queries, s.heads, s.width)).into_iter();
        let k = head_parts(&mut d_k, of_keys);
        let v = head_parts(&mut d_v, of_keys);
        let group = s.heads / s.kv_heads;
        let parts: Vec<GroupParts<'_>> = k
            .into_iter()
            .zip(v)
            .map(|(k, v)| GroupParts { q: q.by_ref().take(group).collect(), k, v })
            .collect();
        parts.into_par_iter().enumerate().try_for_each(|(index, parts)| {
            self.group(gradient, (index / s.kv_heads, index % s.kv_heads), parts)
        })?;
        Ok([d_q, d_k, d_v])
    }
}

/// Scores to weights, and gradients of weights to gradients of scores; `mean` is the row's
/// gradient times its output.
#[inline(always)]
fn softmax_back(
    scores: &mut [f32],
    d_weights: &mut [f32],
    seen: Range<usize>,
    log_sum: f32,
    mean: f32,
) {
    let wide = widened(&seen, scores.len());
    for (score, d) in scores[wide.clone()].iter_mut().zip(&mut d_weights[wide.clone()]) {
        *score = host::exp(*score - log_sum);
        *d = *score * (*d - mean);
    }
    hide(scores, &seen, &wide, 0.0);
    hide(d_weights, &seen, &wide, 0.0);
}

/// Causal softmax attention with grouped key heads: q (B, T, H, head width), k and v
/// (B, keys, kv heads, head width) to (B, T, H, head width).
///
/// # Errors
/// The shapes do not fit.
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
        return tape
            .composed(&[q, k, v], &[], |x, _| reference::attention(&x[0], &x[1], &x[2], &shape));
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
        let gradients = saved.back(&Host::new(&gradient.contiguous()?)?)?;
        let shapes = [saved.q.shape(), saved.k.shape(), saved.v.shape()];
        for ((slot, gradient), shape) in slots.into_iter().zip(gradients).zip(shapes) {
            backward.add_own(slot, gradient, shape)?;
        }
        Ok(())
    }))
}
