//! What does one token take from those it sees?

use crate::nn::host;

use super::cache::LayerRecords;

/// Sizes of attention.
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

/// Softmax attention of the query heads that share key head `kv`: `query` (group, head width) over
/// the records `seen`, into `output`, (group, head width).
pub(super) fn attend(
    heads: Heads,
    kv: usize,
    query: &[f32],
    records: &LayerRecords,
    seen: &[u32],
    output: &mut [f32],
) {
    let (width, all) = (heads.width, heads.keys * heads.width);
    let scale = 1.0 / (width as f32).sqrt();
    let group = query.len() / width;
    let mut scores = vec![0.0_f32; group * seen.len()];
    host::vectorised(
        #[inline(always)]
        || {
            for (at, &record) in seen.iter().enumerate() {
                let key = &records.at(record, all).0[kv * width..][..width];
                for (head, query) in query.chunks_exact(width).enumerate() {
                    scores[head * seen.len() + at] = scale * host::dot(query, key);
                }
            }
            for scores in scores.chunks_exact_mut(seen.len().max(1)) {
                let highest = host::highest(scores);
                for score in scores.iter_mut() {
                    *score = host::exp(*score - highest);
                }
                let share = 1.0 / host::sum_of(scores, |score| score);
                for score in scores.iter_mut() {
                    *score *= share;
                }
            }
            output.fill(0.0);
            for (at, &record) in seen.iter().enumerate() {
                let value = &records.at(record, all).1[kv * width..][..width];
                for (head, output) in output.chunks_exact_mut(width).enumerate() {
                    let weight = scores[head * seen.len() + at];
                    for (output, value) in output.iter_mut().zip(value) {
                        *output += weight * value;
                    }
                }
            }
        },
    );
}

/// Rotates the two halves of every head, as [`crate::nn::rope`]: `cos` and `sin` are those of the
/// token's position, (head width / 2).
pub(super) fn turn(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
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

/// weight * x / sqrt(mean(x^2) + eps) of every row of `x` as wide as `weight`.
pub(super) fn normed(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
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
