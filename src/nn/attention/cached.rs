//! Attention of one token over cached keys and values, for decoding.

use pulp::{Simd, WithSimd};

use super::kernel::softmax;

/// Head counts and width of attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// H, query heads.
    pub(crate) queries: usize,
    /// Key and value heads.
    pub(crate) keys: usize,
    /// Width of one head.
    pub(crate) width: usize,
}

impl Heads {
    /// Query heads that share a key head.
    pub(crate) fn group(self) -> usize {
        self.queries / self.keys
    }
}

/// Cached keys and values, (records, kv heads, head width) each, and the records that a token attends
/// to.
#[derive(Clone, Copy)]
pub(crate) struct CachedKeys<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) visible: &'a [u32],
}

impl CachedKeys<'_> {
    /// Attention of the query heads that share key head `kv_head`: `query`, (group, head width), into
    /// `output`, (group, head width).
    pub(crate) fn attend(self, heads: Heads, kv_head: usize, query: &[f32], output: &mut [f32]) {
        pulp::Arch::new().dispatch(Attention { heads, kv_head, query, cached: self, output });
    }
}

struct Attention<'a> {
    heads: Heads,
    kv_head: usize,
    query: &'a [f32],
    cached: CachedKeys<'a>,
    output: &'a mut [f32],
}

impl WithSimd for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { heads: Heads { keys: kv_heads, width, .. }, kv_head, query, cached, output } =
            self;
        let CachedKeys { keys, values, visible } = cached;
        let row = |record: u32| {
            let start = (record as usize * kv_heads + kv_head) * width;
            start..start + width
        };
        let scale = 1.0 / (width as f32).sqrt();
        let mut scores = vec![0.0_f32; visible.len()];
        for (query, output) in query.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            for (score, &record) in scores.iter_mut().zip(visible) {
                *score = scale * dot(simd, query, &keys[row(record)]);
            }
            softmax(&mut scores, 0..visible.len());
            output.fill(0.0);
            for (&weight, &record) in scores.iter().zip(visible) {
                add_scaled(simd, output, weight, &values[row(record)]);
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
