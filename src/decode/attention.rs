//! Operations of a decoding layer on single rows: attention over cached records, RoPE, RMS norm,
//! SwiGLU.

use pulp::{Simd, WithSimd};

use super::cache::LayerRecords;
use crate::kernels::host;

/// Head counts and width of attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) width: usize,
}

impl Heads {
    /// Query heads that share a key head.
    pub(super) fn group(self) -> usize {
        self.queries / self.keys
    }
}

/// Softmax attention of the query heads that share key head `kv`: `query`, (group, head width), over
/// the records `visible`, into `output`, (group, head width).
pub(super) fn attention(
    heads: Heads,
    kv: usize,
    query: &[f32],
    records: &LayerRecords,
    visible: &[u32],
    output: &mut [f32],
) {
    pulp::Arch::new().dispatch(Attention { heads, kv, query, records, visible, output });
}

struct Attention<'a> {
    heads: Heads,
    kv: usize,
    query: &'a [f32],
    records: &'a LayerRecords,
    visible: &'a [u32],
    output: &'a mut [f32],
}

impl WithSimd for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { heads: Heads { keys, width, .. }, kv, query, records, visible, output } = self;
        let (all, own) = (keys * width, kv * width..(kv + 1) * width);
        let scale = 1.0 / (width as f32).sqrt();
        let mut scores = vec![0.0_f32; visible.len()];
        for (query, output) in query.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            for (score, &record) in scores.iter_mut().zip(visible) {
                let key = &records.get(record, all).0[own.clone()];
                *score = scale * dot(simd, query, key);
            }
            let max = host::max(&scores);
            for score in &mut scores {
                *score = host::exp(*score - max);
            }
            let scale = 1.0 / host::sum_of(&scores, |score| score);
            output.fill(0.0);
            for (&score, &record) in scores.iter().zip(visible) {
                let value = &records.get(record, all).1[own.clone()];
                add_scaled(simd, output, score * scale, value);
            }
        }
    }
}

/// The dot product of two rows of equal length.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = S::as_simd_f32s(a);
    let (b, b_rest) = S::as_simd_f32s(b);
    let rest = simd.partial_load_f32s(a_rest);
    let mut sum = simd.mul_f32s(rest, simd.partial_load_f32s(b_rest));
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    simd.reduce_sum_f32s(sum)
}

/// Adds `factor` times `x` to `y`.
#[inline(always)]
fn add_scaled<S: Simd>(simd: S, y: &mut [f32], factor: f32, x: &[f32]) {
    let (x, x_rest) = S::as_simd_f32s(x);
    let (y, y_rest) = S::as_mut_simd_f32s(y);
    for (y, x) in y.iter_mut().zip(x) {
        *y = simd.mul_add_e_f32s(simd.splat_f32s(factor), *x, *y);
    }
    for (y, x) in y_rest.iter_mut().zip(x_rest) {
        *y += factor * x;
    }
}

/// Rotates the two halves of every head in place, as [`crate::nn::rope`]; `cos` and `sin` are those
/// of the token's position, (head width / 2).
pub(super) fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for head in heads.chunks_exact_mut(2 * half) {
        let (low, high) = head.split_at_mut(half);
        for i in 0..half {
            let (x, y) = (low[i], high[i]);
            low[i] = x * cos[i] - y * sin[i];
            high[i] = y * cos[i] + x * sin[i];
        }
    }
}

/// weight * x / sqrt(mean(x^2) + eps) of the rows of `x`, each as wide as `weight`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    host::new_rows(
        x.len(),
        width,
        #[inline(always)]
        |row, y| {
            let x = &x[row * width..(row + 1) * width];
            let squares = host::sum_of(x, |x| x * x);
            let inverse = 1.0 / (squares / width as f32 + eps).sqrt();
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * weight;
            }
        },
    )
}

/// silu(gate) * up into `gate`.
pub(super) fn swiglu(gate: &mut [f32], up: &[f32]) {
    host::fill_ranges(
        gate,
        #[inline(always)]
        |range, gate| {
            for (gate, up) in gate.iter_mut().zip(&up[range]) {
                *gate = *gate / (1.0 + host::exp(-*gate)) * up;
            }
        },
    );
}
