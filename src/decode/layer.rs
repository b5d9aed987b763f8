//! One layer of the decoder: quantized matrices, and their application to single rows with a cache.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, TensorId};
use rayon::prelude::*;

use super::attention::{Heads, attention, rms_norm, rotate, swiglu};
use super::cache::DecodeCache;
use super::pass::{Pass, TokenPosition};
use crate::autograd::Weight;
use crate::error::Result;
use crate::kernels::host;
use crate::kernels::quantized::{QuantizedMatrix, WeightType};
use crate::nn::{Block, Linear};

/// Multiplications of attention above which heads are split among threads.
const WORTH_SPLITTING: usize = 1 << 17;

/// Quantized matrices by the tensor they were made from: a shared block is stored once.
pub(super) struct MatrixStore {
    weight_type: WeightType,
    matrices: HashMap<TensorId, Arc<QuantizedMatrix>>,
}

impl MatrixStore {
    pub(super) fn new(weight_type: WeightType) -> Self {
        Self { weight_type, matrices: HashMap::new() }
    }

    /// The matrix of a weight, (out, in).
    pub(super) fn matrix(&mut self, weight: &Weight) -> Result<Arc<QuantizedMatrix>> {
        let tensor = weight.tensor();
        if let Some(matrix) = self.matrices.get(&tensor.id()) {
            return Ok(matrix.clone());
        }
        let matrix = Arc::new(QuantizedMatrix::new(&to_host(tensor)?, self.weight_type)?);
        self.matrices.insert(tensor.id(), matrix.clone());
        Ok(matrix)
    }

    /// Bytes of all matrices.
    pub(super) fn bytes(&self) -> usize {
        self.matrices.values().map(|matrix| matrix.bytes()).sum()
    }
}

/// A contiguous f32 copy of a tensor on the CPU.
pub(super) fn to_host(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?)
}

/// The values of a vector.
pub(super) fn values(weight: &Weight) -> Result<Vec<f32>> {
    Ok(to_host(weight.tensor())?.flatten_all()?.to_vec1()?)
}

/// A linear layer with a quantized matrix: y = x (W + B A)^T + bias.
struct QuantizedLinear {
    weight: Arc<QuantizedMatrix>,
    bias: Option<Vec<f32>>,
    low_rank: Option<[QuantizedMatrix; 2]>,
}

impl QuantizedLinear {
    fn new(linear: &Linear, store: &mut MatrixStore) -> Result<Self> {
        let unquantized =
            |weight: &Weight| QuantizedMatrix::new(&to_host(weight.tensor())?, WeightType::F32);
        let low_rank = match &linear.low_rank {
            Some(low_rank) => Some([unquantized(&low_rank.a)?, unquantized(&low_rank.b)?]),
            None => None,
        };
        Ok(Self {
            weight: store.matrix(&linear.weight)?,
            bias: linear.bias.as_ref().map(values).transpose()?,
            low_rank,
        })
    }

    /// (rows, in) to (rows, out).
    fn apply(&self, x: &[f32]) -> Result<Vec<f32>> {
        let rows = x.len() / self.weight.inner();
        let mut y = vec![0.0; rows * self.weight.out()];
        self.weight.product(x, &mut y)?;
        if let Some([a, b]) = &self.low_rank {
            let mut middle = vec![0.0; rows * a.out()];
            a.product(x, &mut middle)?;
            let mut correction = vec![0.0; y.len()];
            b.product(&middle, &mut correction)?;
            host::add_to(&mut y, &correction);
        }
        if let Some(bias) = &self.bias {
            for row in y.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
        Ok(y)
    }
}

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
        let heads = Heads { queries: q.weight.out() / width, keys: k.weight.out() / width, width };
        Ok(Self {
            attention_norm: values(&block.attention_norm)?,
            q_norm: block.q_norm.as_ref().map(values).transpose()?,
            k_norm: block.k_norm.as_ref().map(values).transpose()?,
            mlp_norm: values(&block.mlp_norm)?,
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
        let input = rms_norm(x, &self.attention_norm, self.eps);
        let (mut q, mut k) = (self.q.apply(&input)?, self.k.apply(&input)?);
        let v = self.v.apply(&input)?;
        for (heads, norm) in [(&mut q, &self.q_norm), (&mut k, &self.k_norm)] {
            if let Some(norm) = norm {
                *heads = rms_norm(heads, norm, self.eps);
            }
        }
        let Heads { queries, keys, width } = self.heads;
        let (q_width, kv_width) = (queries * width, keys * width);
        for (index, &token) in active.iter().enumerate() {
            let (cos, sin) = pass.rotation(token);
            rotate(&mut q[index * q_width..(index + 1) * q_width], cos, sin);
            let row = index * kv_width..(index + 1) * kv_width;
            rotate(&mut k[row.clone()], cos, sin);
            let TokenPosition { sequence, position } = pass.tokens[token];
            let records = &mut cache.sequences[sequence].layers[key.layer];
            records.write(key.repetition.unwrap_or(1), position, &k[row.clone()], &v[row]);
        }
        let mixed = self.attention(&q, active, key, pass, cache);
        host::add_to(x, &self.o.apply(&mixed)?);
        let input = rms_norm(x, &self.mlp_norm, self.eps);
        let mut gate = self.gate.apply(&input)?;
        swiglu(&mut gate, &self.up.apply(&input)?);
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
                attention(self.heads, kv, query, records, &visible, output);
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
                attention(self.heads, kv, query, records, &visible, output);
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
