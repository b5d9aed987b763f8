//! One layer of the decoder: quantized matrices, and their application to single rows with a cache.

use rayon::prelude::*;

use super::cache::DecodeCache;
use super::pass::{Pass, TokenPosition};
use crate::autograd::Weight;
use crate::error::Result;
use crate::kernels::host;
use crate::nn::{
    Block, Heads, Linear, MatrixStore, QuantizedLinear, rms_norm_rows, swiglu_in_place,
};

/// Multiplications of attention above which heads are split among threads.
const WORTH_SPLITTING: usize = 1 << 17;

/// One layer with the relaxation of one repetition.
pub(super) struct Layer {
    attention_norm: Vec<f32>,
    q: QuantizedLinear,
    k: QuantizedLinear,
    v: QuantizedLinear,
    o: QuantizedLinear,
    q_norm: Option<Vec<f32>>,
    k_norm: Option<Vec<f32>>,
    mlp_norm: Vec<f32>,
    gate: QuantizedLinear,
    up: QuantizedLinear,
    down: QuantizedLinear,
    eps: f32,
    window: Option<usize>,
    heads: Heads,
}

/// The layer and the repetition that records are cached under; no repetition in layers that are
/// applied once.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheKey {
    pub(super) layer: usize,
    pub(super) repetition: Option<usize>,
}

impl Layer {
    pub(super) fn new(block: &Block, store: &mut MatrixStore) -> Result<Self> {
        let width = block.shape.head_width;
        let mut linear = |linear: &Linear| QuantizedLinear::new(linear, store);
        let (q, k) = (linear(&block.q)?, linear(&block.k)?);
        let (v, o) = (linear(&block.v)?, linear(&block.o)?);
        let heads = Heads { queries: q.out() / width, keys: k.out() / width, width };
        Ok(Self {
            attention_norm: block.attention_norm.to_vec()?,
            q_norm: block.q_norm.as_ref().map(Weight::to_vec).transpose()?,
            k_norm: block.k_norm.as_ref().map(Weight::to_vec).transpose()?,
            mlp_norm: block.mlp_norm.to_vec()?,
            gate: linear(&block.gate)?,
            up: linear(&block.up)?,
            down: linear(&block.down)?,
            eps: block.shape.norm_eps as f32,
            window: block.shape.window,
            heads,
            q,
            k,
            v,
            o,
        })
    }

    /// Applies the layer to the states `x`, (tokens, D), of the tokens `active` of a pass, and caches
    /// their keys and values under `key`.
    pub(super) fn apply(
        &self,
        x: &mut [f32],
        active: &[usize],
        key: CacheKey,
        pass: &Pass,
        cache: &mut DecodeCache,
    ) -> Result<()> {
        let input = rms_norm_rows(x, &self.attention_norm, self.eps);
        let (mut q, mut k) = (self.q.apply(&input)?, self.k.apply(&input)?);
        let v = self.v.apply(&input)?;
        for (heads, norm) in [(&mut q, &self.q_norm), (&mut k, &self.k_norm)] {
            if let Some(norm) = norm {
                *heads = rms_norm_rows(heads, norm, self.eps);
            }
        }
        let Heads { queries, keys, width } = self.heads;
        let (q_width, kv_width) = (queries * width, keys * width);
        for (index, &token) in active.iter().enumerate() {
            pass.table.rotate_token(token, &mut q[index * q_width..(index + 1) * q_width]);
            let row = index * kv_width..(index + 1) * kv_width;
            pass.table.rotate_token(token, &mut k[row.clone()]);
            let TokenPosition { sequence, position } = pass.tokens[token];
            let records = &mut cache.sequences[sequence].layers[key.layer];
            records.write(key.repetition.unwrap_or(1), position, &k[row.clone()], &v[row]);
        }
        let mixed = self.attention(&q, active, key, pass, cache);
        host::add_to(x, &self.o.apply(&mixed)?);
        let input = rms_norm_rows(x, &self.mlp_norm, self.eps);
        let mut gate = self.gate.apply(&input)?;
        swiglu_in_place(&mut gate, &self.up.apply(&input)?);
        host::add_to(x, &self.down.apply(&gate)?);
        Ok(())
    }

    /// Attention of every token: queries, (tokens, heads, head width), to outputs of the same shape.
    fn attention(
        &self,
        q: &[f32],
        active: &[usize],
        key: CacheKey,
        pass: &Pass,
        cache: &DecodeCache,
    ) -> Vec<f32> {
        let Heads { queries, width, .. } = self.heads;
        let (part, row) = (self.heads.group() * width, queries * width);
        let visible = |index: usize| {
            let TokenPosition { sequence, position } = pass.tokens[active[index]];
            let end = position + 1;
            let start = self.window.map_or(0, |window| end.saturating_sub(window));
            let visible = cache.visible(sequence, key.layer, key.repetition, start..end);
            (&cache.sequences[sequence].layers[key.layer], visible)
        };
        let mut mixed = vec![0.0; q.len()];
        if let [_] = active {
            let (records, visible) = visible(0);
            let head = |(kv, output): (usize, &mut [f32])| {
                let query = &q[kv * part..(kv + 1) * part];
                records.keys(&visible).attend(self.heads, kv, query, output);
            };
            if visible.len() * row < WORTH_SPLITTING {
                mixed.chunks_exact_mut(part).enumerate().for_each(head);
            } else {
                mixed.par_chunks_exact_mut(part).enumerate().for_each(head);
            }
            return mixed;
        }
        let token = |(index, output): (usize, &mut [f32])| {
            let (records, visible) = visible(index);
            let query = &q[index * row..(index + 1) * row];
            for (kv, output) in output.chunks_exact_mut(part).enumerate() {
                let query = &query[kv * part..(kv + 1) * part];
                records.keys(&visible).attend(self.heads, kv, query, output);
            }
        };
        let longest = active.iter().map(|&token| pass.tokens[token].position + 1).max();
        if active.len() * longest.unwrap_or(0) * row < WORTH_SPLITTING {
            mixed.chunks_exact_mut(row).enumerate().for_each(token);
        } else {
            mixed.par_chunks_exact_mut(row).enumerate().for_each(token);
        }
        mixed
    }
}
