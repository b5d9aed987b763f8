//! Which earlier tokens does a token read?
//!
//! Softmax attention in blocks of queries. Only the log-sum-exp of each row is kept for the way
//! back, never a T x T matrix. Dao et al. 2022.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::gemm::{Into, Matrix, Threads, product};
use super::host::{self, Host};
use super::reference;
use super::tape::{Tape, Value};
use crate::error::{Error, Result};

/// Queries that share one block of scores.
const BLOCK: usize = 64;

/// Who sees whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Position of the first query among the keys.
    pub start: usize,
    /// A query sees this many keys, its own included; none: all before it.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// Whether `query` (counted from the first query) sees `key`.
    #[must_use]
    pub fn sees(&self, query: usize, key: usize) -> bool {
        self.keys(query).contains(&key)
    }

    /// The keys that `query` sees.
    fn keys(&self, query: usize) -> Range<usize> {
        let end = self.start + query + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// The keys that any of the `queries` sees.
    fn keys_of(&self, queries: &Range<usize>) -> Range<usize> {
        self.keys(queries.start).start..self.keys(queries.end - 1).end
    }
}

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

    /// One head: its outputs (T, width) and the log-sum-exp of each row's scores (T).
    fn forward(&self, q: &[f32], k: &[f32], v: &[f32], at: (usize, usize)) -> (Vec<f32>, Vec<f32>) {
        let kv = (at.0, at.1 * self.kv_heads / self.heads);
        let mut output = vec![0.0; self.queries * self.width];
        let mut log_sums = vec![0.0; self.queries];
        let mut scores = Vec::new();
        for rows in self.blocks() {
            let keys = self.shape.keys_of(&rows);
            let k = self.keys(k, kv, keys.clone());
            scores.resize(rows.len() * keys.len(), 0.0);
            let q = self.queries(q, at, rows.clone());
            product(&mut scores, Into::Replace, self.scale(), q, k.transposed(), Threads::One);
            let log_sums = &mut log_sums[rows.clone()];
            host::vectorised(|| {
                for (row, (scores, log_sum)) in
                    scores.chunks_exact_mut(keys.len()).zip(log_sums).enumerate()
                {
                    let seen = self.shape.keys(rows.start + row);
                    *log_sum = softmax(scores, seen.start - keys.start..seen.end - keys.start);
                }
            });
            let weights = Matrix::new(&scores, rows.len(), keys.len());
            let v = self.keys(v, kv, keys);
            let output = &mut output[rows.start * self.width..];
            product(output, Into::Replace, 1.0, weights, v, Threads::One);
        }
        (output, log_sums)
    }
}

/// Turns the scores seen into weights that sum to one, the others into 0; gives the log-sum-exp.
#[inline]
fn softmax(scores: &mut [f32], seen: Range<usize>) -> f32 {
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    let scores = &mut scores[seen];
    let highest = scores.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    for score in scores.iter_mut() {
        *score = host::exp(*score - highest);
    }
    let sum: f32 = scores.iter().sum();
    for score in scores.iter_mut() {
        *score /= sum;
    }
    highest + sum.ln()
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

/// Gradients of the heads that share one key head.
struct GroupGradients {
    q: Vec<Vec<f32>>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Saved {
    fn group(&self, gradient: &[f32], batch: usize, kv_head: usize) -> Result<GroupGradients> {
        let s = &self.sizes;
        let (q, k, v) = (Host::new(&self.q)?, Host::new(&self.k)?, Host::new(&self.v)?);
        let output = Host::new(&self.output)?;
        let mut d = GroupGradients {
            q: Vec::new(),
            k: vec![0.0; s.keys * s.width],
            v: vec![0.0; s.keys * s.width],
        };
        let group = s.heads / s.kv_heads;
        let (mut weights, mut d_weights) = (Vec::new(), Vec::new());
        for head in kv_head * group..(kv_head + 1) * group {
            let at = (batch, head);
            let log_sums = &self.log_sums[batch * s.heads + head];
            let mut d_q = vec![0.0; s.queries * s.width];
            for rows in s.blocks() {
                let keys = s.shape.keys_of(&rows);
                let (k_rows, v_rows) = (
                    s.keys(&k, (batch, kv_head), keys.clone()),
                    s.keys(&v, (batch, kv_head), keys.clone()),
                );
                let q_rows = s.queries(&q, at, rows.clone());
                let d_out = s.queries(gradient, at, rows.clone());
                weights.resize(rows.len() * keys.len(), 0.0);
                d_weights.resize(rows.len() * keys.len(), 0.0);
                product(
                    &mut weights,
                    Into::Replace,
                    s.scale(),
                    q_rows,
                    k_rows.transposed(),
                    Threads::One,
                );
                product(
                    &mut d_weights,
                    Into::Replace,
                    1.0,
                    d_out,
                    v_rows.transposed(),
                    Threads::One,
                );
                host::vectorised(|| {
                    for (index, row) in rows.clone().enumerate() {
                        let seen = s.shape.keys(row);
                        let seen = seen.start - keys.start..seen.end - keys.start;
                        let span = index * keys.len()..(index + 1) * keys.len();
                        let start = (batch * s.queries + row) * s.heads * s.width + head * s.width;
                        let span_out = start..start + s.width;
                        let mean = host::dot(&gradient[span_out.clone()], &output[span_out]);
                        softmax_back(
                            &mut weights[span.clone()],
                            &mut d_weights[span],
                            seen,
                            log_sums[row],
                            mean,
                        );
                    }
                });
                let p = Matrix::new(&weights, rows.len(), keys.len());
                let d_scores = Matrix::new(&d_weights, rows.len(), keys.len());
                let d_v = &mut d.v[keys.start * s.width..];
                product(d_v, Into::Add, 1.0, p.transposed(), d_out, Threads::One);
                let d_q = &mut d_q[rows.start * s.width..];
                product(d_q, Into::Replace, s.scale(), d_scores, k_rows, Threads::One);
                let d_k = &mut d.k[keys.start * s.width..];
                product(d_k, Into::Add, s.scale(), d_scores.transposed(), q_rows, Threads::One);
            }
            d.q.push(d_q);
        }
        Ok(d)
    }
}

/// Scores to weights, and gradients of weights to gradients of scores; `mean` is the row's
/// gradient times its output.
#[inline]
fn softmax_back(
    scores: &mut [f32],
    d_weights: &mut [f32],
    seen: Range<usize>,
    log_sum: f32,
    mean: f32,
) {
    for row in [&mut *scores, &mut *d_weights] {
        row[..seen.start].fill(0.0);
        row[seen.end..].fill(0.0);
    }
    for (score, d) in scores[seen.clone()].iter_mut().zip(&mut d_weights[seen]) {
        *score = host::exp(*score - log_sum);
        *d = *score * (*d - mean);
    }
}

/// Copies head-major rows into (B, tokens, heads, width); `parts` are ordered by batch, then head.
fn interleave(
    parts: &[&[f32]],
    (batch, tokens, heads, width): (usize, usize, usize, usize),
) -> Vec<f32> {
    host::new_rows(batch * tokens * heads * width, heads * width, |row, values| {
        let (batch, token) = (row / tokens, row % tokens);
        for (head, values) in values.chunks_exact_mut(width).enumerate() {
            let part = parts[batch * heads + head];
            values.copy_from_slice(&part[token * width..(token + 1) * width]);
        }
    })
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
    if !tape.fuses(q.tensor()) {
        return tape
            .composed(&[q, k, v], &[], |x, _| reference::attention(&x[0], &x[1], &x[2], &shape));
    }
    let sizes = Sizes { queries, keys, heads, kv_heads, width, shape };
    let (q_tensor, k_tensor, v_tensor) =
        (q.tensor().contiguous()?, k.tensor().contiguous()?, v.tensor().contiguous()?);
    let heads_done: Vec<(Vec<f32>, Vec<f32>)> = {
        let (q, k, v) = (Host::new(&q_tensor)?, Host::new(&k_tensor)?, Host::new(&v_tensor)?);
        let (q, k, v): (&[f32], &[f32], &[f32]) = (&q, &k, &v);
        let one = |i: usize| sizes.forward(q, k, v, (i / heads, i % heads));
        (0..batch * heads).into_par_iter().map(one).collect()
    };
    let parts: Vec<&[f32]> = heads_done.iter().map(|(output, _)| output.as_slice()).collect();
    let output = interleave(&parts, (batch, queries, heads, width));
    let output = host::tensor(output, q_tensor.shape())?;
    if !tape.needs(&[q, k, v], &[]) {
        return Ok(Value::constant(output));
    }
    let log_sums = heads_done.into_iter().map(|(_, log_sums)| log_sums).collect();
    let slots = (q.slot(), k.slot(), v.slot());
    let (q, k, v) = (q_tensor, k_tensor, v_tensor);
    let saved = Saved { sizes, q, k, v, output: output.clone(), log_sums };
    Ok(tape.push(output, move |gradient, backward| {
        let groups: Vec<GroupGradients> = {
            let gradient = Host::new(&gradient)?;
            let gradient: &[f32] = &gradient;
            let one = |i: usize| saved.group(gradient, i / kv_heads, i % kv_heads);
            (0..batch * kv_heads).into_par_iter().map(one).collect::<Result<_>>()?
        };
        let d_q: Vec<&[f32]> = groups.iter().flat_map(|d| d.q.iter().map(Vec::as_slice)).collect();
        let d_k: Vec<&[f32]> = groups.iter().map(|d| d.k.as_slice()).collect();
        let d_v: Vec<&[f32]> = groups.iter().map(|d| d.v.as_slice()).collect();
        let (q_sizes, k_sizes) = ((batch, queries, heads, width), (batch, keys, kv_heads, width));
        backward.add(slots.0, host::tensor(interleave(&d_q, q_sizes), saved.q.shape())?)?;
        backward.add(slots.1, host::tensor(interleave(&d_k, k_sizes), saved.k.shape())?)?;
        backward.add(slots.2, host::tensor(interleave(&d_v, k_sizes), saved.v.shape())?)
    }))
}
