//! What is one layer?

use candle_core::Tensor;

use super::attention::{AttentionShape, attention};
use super::linear::Linear;
use super::mlp::{add, swiglu};
use super::norm::rms_norm;
use super::params::{Weight, Weights};
use super::rope::{RopeTable, rope};
use super::tape::{Tape, Value};
use crate::error::Result;

/// Sizes of a block that its weights do not tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockShape {
    /// Width of one head.
    pub head_width: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f64,
    /// A query sees this many tokens; none: all before it.
    pub window: Option<usize>,
}

/// Keys and values of the tokens read so far, each (B, tokens, kv heads, head width).
pub type LayerCache = Option<(Tensor, Tensor)>;

/// Attention, then a gated mlp, each on a normed residual stream.
#[derive(Debug, Clone)]
pub struct Block {
    attention_norm: Weight,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    q_norm: Option<Weight>,
    k_norm: Option<Weight>,
    mlp_norm: Weight,
    gate: Linear,
    up: Linear,
    down: Linear,
    shape: BlockShape,
}

impl Block {
    /// The block whose weights start with `prefix`; `repetition` picks its own low-rank parts and
    /// norms where there are any.
    ///
    /// # Errors
    /// A weight is missing.
    pub fn new(
        weights: &dyn Weights,
        prefix: &str,
        shape: BlockShape,
        repetition: Option<usize>,
    ) -> Result<Self> {
        let linear = |part: &str| {
            let name = format!("{prefix}.{part}");
            let linear = Linear::new(weights, &name)?;
            match repetition {
                Some(repetition) => linear.with_low_rank(weights, &name, repetition),
                None => Ok(linear),
            }
        };
        let norm = |part: &str| {
            let own = repetition.map(|r| format!("{prefix}.{part}.repetition.{r}.weight"));
            match own.filter(|name| weights.has(name)) {
                Some(own) => weights.weight(&own),
                None => weights.weight(&format!("{prefix}.{part}.weight")),
            }
        };
        let optional = |part: &str| {
            let name = format!("{prefix}.{part}.weight");
            weights.has(&name).then(|| weights.weight(&name)).transpose()
        };
        Ok(Self {
            attention_norm: norm("attention_norm")?,
            q: linear("attention.q")?,
            k: linear("attention.k")?,
            v: linear("attention.v")?,
            o: linear("attention.o")?,
            q_norm: optional("attention.q_norm")?,
            k_norm: optional("attention.k_norm")?,
            mlp_norm: norm("mlp_norm")?,
            gate: linear("mlp.gate")?,
            up: linear("mlp.up")?,
            down: linear("mlp.down")?,
            shape,
        })
    }

    /// (B, T, D) to (B, T, D), with what `cache` holds before it.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn forward(
        &self,
        tape: &Tape,
        x: &Value,
        table: &RopeTable,
        cache: Option<&mut LayerCache>,
    ) -> Result<Value> {
        let normed = rms_norm(tape, x, &self.attention_norm, self.shape.norm_eps)?;
        let q = self.heads(tape, &self.q, self.q_norm.as_ref(), &normed)?;
        let k = self.heads(tape, &self.k, self.k_norm.as_ref(), &normed)?;
        let v = self.heads(tape, &self.v, None, &normed)?;
        let (q, mut k) = (rope(tape, &q, table)?, rope(tape, &k, table)?);
        let mut v = v;
        let mut start = 0;
        if let Some(cache) = cache {
            if let Some((keys, values)) = cache.take() {
                start = keys.dim(1)?;
                k = Value::constant(Tensor::cat(&[&keys, k.tensor()], 1)?);
                v = Value::constant(Tensor::cat(&[&values, v.tensor()], 1)?);
            }
            *cache = Some((k.tensor().clone(), v.tensor().clone()));
        }
        let shape = AttentionShape { start, window: self.shape.window };
        let mixed = attention(tape, &q, &k, &v, shape)?;
        let (batch, tokens, heads, width) = mixed.tensor().dims4()?;
        let mixed = self.o.forward(tape, &mixed.reshaped((batch, tokens, heads * width))?)?;
        let x = add(tape, x, &mixed)?;
        let normed = rms_norm(tape, &x, &self.mlp_norm, self.shape.norm_eps)?;
        let gate = self.gate.forward(tape, &normed)?;
        let up = self.up.forward(tape, &normed)?;
        let inner = swiglu(tape, &gate, &up)?;
        add(tape, &x, &self.down.forward(tape, &inner)?)
    }

    /// (B, T, D) to (B, T, heads, head width).
    fn heads(
        &self,
        tape: &Tape,
        linear: &Linear,
        norm: Option<&Weight>,
        x: &Value,
    ) -> Result<Value> {
        let y = linear.forward(tape, x)?;
        let (batch, tokens, width) = y.tensor().dims3()?;
        let head = self.shape.head_width;
        let y = y.reshaped((batch, tokens, width / head, head))?;
        norm.map_or(Ok(y.clone()), |norm| rms_norm(tape, &y, norm, self.shape.norm_eps))
    }
}
