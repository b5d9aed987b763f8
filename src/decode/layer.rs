//! What is one layer of a decoder made of, and what does it make of its tokens?

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, TensorId};
use rayon::prelude::*;

use super::attention::{Heads, attention, normed, swiglu, turn};
use super::cache::DecodeCache;
use super::pass::Pass;
use crate::autograd::Weight;
use crate::error::Result;
use crate::kernels::host;
use crate::kernels::quantized::{QuantizedMatrix, WeightType};
use crate::nn::{Block, Linear};

/// Multiplications of attention from which heads go to several threads.
const WORTH_SPLITTING: usize = 1 << 17;

/// Matrices by the tensor they were made from: a shared block is stored once.
pub(super) struct Store {
    pub(super) stored_as: WeightType,
    made: HashMap<TensorId, Arc<QuantizedMatrix>>,
}

impl Store {
    pub(super) fn new(stored_as: WeightType) -> Self {
        Self { stored_as, made: HashMap::new() }
    }

    /// The matrix of a weight, (out, in).
    pub(super) fn matrix(&mut self, weight: &Weight) -> Result<Arc<QuantizedMatrix>> {
        let tensor = weight.tensor();
        if let Some(found) = self.made.get(&tensor.id()) {
            return Ok(found.clone());
        }
        let made = Arc::new(QuantizedMatrix::new(&on_host(tensor)?, self.stored_as)?);
        self.made.insert(tensor.id(), made.clone());
        Ok(made)
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.made.values().map(|matrix| matrix.bytes()).sum()
    }
}

/// A tensor as f32 on the CPU, row by row.
pub(super) fn on_host(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?)
}

/// A vector's numbers.
pub(super) fn numbers(weight: &Weight) -> Result<Vec<f32>> {
    Ok(on_host(weight.tensor())?.flatten_all()?.to_vec1()?)
}

/// y = x (W + B A)^T + bias.
struct Map {
    weight: Arc<QuantizedMatrix>,
    bias: Option<Vec<f32>>,
    low_rank: Option<[QuantizedMatrix; 2]>,
}

impl Map {
    fn new(linear: &Linear, store: &mut Store) -> Result<Self> {
        let thin =
            |weight: &Weight| QuantizedMatrix::new(&on_host(weight.tensor())?, WeightType::F32);
        let low_rank = match &linear.low_rank {
            Some(low) => Some([thin(&low.a)?, thin(&low.b)?]),
            None => None,
        };
        Ok(Self {
            weight: store.matrix(&linear.weight)?,
            bias: linear.bias.as_ref().map(numbers).transpose()?,
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
            let mut more = vec![0.0; y.len()];
            b.product(&middle, &mut more)?;
            host::add_to(&mut y, &more);
        }
        if let Some(bias) = &self.bias {
            for row in y.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
        Ok(y)
    }
}

/// The weights of one layer at one repetition.
pub(super) struct Layer {
    attention_norm: Vec<f32>,
    q: Map,
    k: Map,
    v: Map,
    o: Map,
    q_norm: Option<Vec<f32>>,
    k_norm: Option<Vec<f32>>,
    mlp_norm: Vec<f32>,
    gate: Map,
    up: Map,
    down: Map,
    eps: f32,
    window: Option<usize>,
    heads: Heads,
}

/// Which layer it is, and at which repetition: none where every token passes once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    pub(super) layer: usize,
    pub(super) repetition: Option<usize>,
}

impl Layer {
    pub(super) fn new(block: &Block, store: &mut Store) -> Result<Self> {
        let width = block.shape.head_width;
        let mut map = |linear: &Linear| Map::new(linear, store);
        let (q, k, v, o) = (map(&block.q)?, map(&block.k)?, map(&block.v)?, map(&block.o)?);
        let heads = Heads { queries: q.weight.out() / width, keys: k.weight.out() / width, width };
        Ok(Self {
            attention_norm: numbers(&block.attention_norm)?,
            q_norm: block.q_norm.as_ref().map(numbers).transpose()?,
            k_norm: block.k_norm.as_ref().map(numbers).transpose()?,
            mlp_norm: numbers(&block.mlp_norm)?,
            gate: map(&block.gate)?,
            up: map(&block.up)?,
            down: map(&block.down)?,
            eps: block.shape.norm_eps as f32,
            window: block.shape.window,
            heads,
            q,
            k,
            v,
            o,
        })
    }

    /// Applies the layer to the states `x`, (tokens, D), of the tokens `active` of a pass, and keeps
    /// their keys and values.
    pub(super) fn apply(
        &self,
        x: &mut [f32],
        active: &[usize],
        here: Here,
        pass: &Pass,
        cache: &mut DecodeCache,
    ) -> Result<()> {
        let input = normed(x, &self.attention_norm, self.eps);
        let (mut q, mut k) = (self.q.apply(&input)?, self.k.apply(&input)?);
        let v = self.v.apply(&input)?;
        for (heads, norm) in [(&mut q, &self.q_norm), (&mut k, &self.k_norm)] {
            if let Some(norm) = norm {
                *heads = normed(heads, norm, self.eps);
            }
        }
        let Heads { queries, keys, width } = self.heads;
        let (q_width, kv_width) = (queries * width, keys * width);
        for (at, &token) in active.iter().enumerate() {
            let (cos, sin) = pass.turns(token);
            turn(&mut q[at * q_width..(at + 1) * q_width], cos, sin);
            let row = at * kv_width..(at + 1) * kv_width;
            turn(&mut k[row.clone()], cos, sin);
            let place = pass.places[token];
            let records = &mut cache.texts[place.text].layers[here.layer];
            records.write(here.repetition.unwrap_or(1), place.position, &k[row.clone()], &v[row]);
        }
        let mixed = self.mix(&q, active, here, pass, cache);
        host::add_to(x, &self.o.apply(&mixed)?);
        let input = normed(x, &self.mlp_norm, self.eps);
        let mut gate = self.gate.apply(&input)?;
        swiglu(&mut gate, &self.up.apply(&input)?);
        host::add_to(x, &self.down.apply(&gate)?);
        Ok(())
    }

    /// Attention of every token, (tokens, heads, head width).
    fn mix(
        &self,
        q: &[f32],
        active: &[usize],
        here: Here,
        pass: &Pass,
        cache: &DecodeCache,
    ) -> Vec<f32> {
        let Heads { queries, width, .. } = self.heads;
        let (part, row) = (self.heads.group() * width, queries * width);
        let seen = |at: usize| {
            let place = pass.places[active[at]];
            let end = place.position + 1;
            let start = self.window.map_or(0, |window| end.saturating_sub(window));
            let seen = cache.seen(place.text, here.layer, here.repetition, start..end);
            (&cache.texts[place.text].layers[here.layer], seen)
        };
        let mut mixed = vec![0.0; q.len()];
        if let [_] = active {
            let (records, seen) = seen(0);
            let head = |(kv, output): (usize, &mut [f32])| {
                attention(self.heads, kv, &q[kv * part..(kv + 1) * part], records, &seen, output);
            };
            if seen.len() * row < WORTH_SPLITTING {
                mixed.chunks_exact_mut(part).enumerate().for_each(head);
            } else {
                mixed.par_chunks_exact_mut(part).enumerate().for_each(head);
            }
            return mixed;
        }
        let token = |(at, output): (usize, &mut [f32])| {
            let (records, seen) = seen(at);
            let query = &q[at * row..(at + 1) * row];
            for (kv, output) in output.chunks_exact_mut(part).enumerate() {
                let query = &query[kv * part..(kv + 1) * part];
                attention(self.heads, kv, query, records, &seen, output);
            }
        };
        let longest = active.iter().map(|&token| pass.places[token].position + 1).max();
        if active.len() * longest.unwrap_or(0) * row < WORTH_SPLITTING {
            mixed.chunks_exact_mut(row).enumerate().for_each(token);
        } else {
            mixed.par_chunks_exact_mut(row).enumerate().for_each(token);
        }
        mixed
    }
}
