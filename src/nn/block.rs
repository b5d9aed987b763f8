//! One pre-norm decoder layer: attention, then a gated MLP, each added to the residual stream.

use candle_core::Tensor;

use super::add::add;
use super::attention::{AttentionShape, attention};
use super::gather::{gather, scatter};
use super::linear::{Linear, vector};
use super::norm::rms_norm;
use super::rope::{RopeTable, rope};
use super::swiglu::swiglu;
use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;

/// Sizes of a block that its weights do not determine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockShape {
    /// Width of one head.
    pub head_width: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f64,
    /// Sliding window in tokens, the query's own included; none for full causal attention.
    pub window: Option<usize>,
}

/// Inputs of the matrices of a block, each (B, T, width of the input).
#[derive(Debug, Clone)]
pub struct BlockInputs {
    /// Input of q, k and v.
    pub attention: Tensor,
    /// Input of o.
    pub mixed: Tensor,
    /// Input of gate and up.
    pub mlp: Tensor,
    /// Input of down.
    pub inner: Tensor,
}

/// Keys and values of the tokens read so far, each (B, tokens, kv heads, head width).
pub type LayerCache = Option<(Tensor, Tensor)>;

/// Latest keys and values of every token in a layer, each (B, T, kv heads, head width).
#[derive(Debug, Clone)]
pub struct LastKeys {
    /// Keys before RoPE.
    pub keys: Value,
    /// Values.
    pub values: Value,
}

/// Attention, then a gated MLP, each on a normed residual stream: x + f(norm(x)) twice.
#[derive(Debug, Clone)]
pub struct Block {
    pub(crate) attention_norm: Weight,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    pub(crate) q_norm: Option<Weight>,
    pub(crate) k_norm: Option<Weight>,
    pub(crate) mlp_norm: Weight,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) shape: BlockShape,
}

impl Block {
    /// The block whose weight names start with `prefix`, with the low-rank corrections, norms and
    /// biases of `repetition` where there are any.
    ///
    /// # Errors
    /// A weight is missing.
    pub fn new(
        weights: &dyn Weights,
        prefix: &str,
        shape: BlockShape,
        repetition: Option<usize>,
    ) -> Result<Self> {
        let linear = |part: &str| Linear::new(weights, &format!("{prefix}.{part}"), repetition);
        let optional =
            |part: &str| vector(weights, &format!("{prefix}.{part}"), "weight", repetition);
        let norm = |part: &str| {
            let own = optional(part)?;
            own.map_or_else(|| weights.weight(&format!("{prefix}.{part}.weight")), Ok)
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

    /// Applies the block: (B, T, D) to (B, T, D). With a `cache`, the tokens follow those in it and
    /// are added to it.
    ///
    /// # Errors
    /// The shape of `x` does not match the weights.
    pub fn forward(
        &self,
        tape: &Tape,
        x: &Value,
        table: &RopeTable,
        cache: Option<&mut LayerCache>,
    ) -> Result<Value> {
        let (x, _) = self.attention(tape, x, table, cache)?;
        Ok(self.mlp(tape, &x)?.0)
    }

    /// The output, (B, T, D), and the inputs of all matrices; records nothing.
    ///
    /// # Errors
    /// The shape of `x` does not match the weights.
    pub fn trace(&self, x: &Tensor, table: &RopeTable) -> Result<(Tensor, BlockInputs)> {
        let tape = Tape::off();
        let (x, [attention, mixed]) =
            self.attention(&tape, &Value::constant(x.clone()), table, None)?;
        let (output, [mlp, inner]) = self.mlp(&tape, &x)?;
        let tensor = |value: Value| value.tensor().clone();
        let inputs = BlockInputs {
            attention: tensor(attention),
            mixed: tensor(mixed),
            mlp: tensor(mlp),
            inner: tensor(inner),
        };
        Ok((tensor(output), inputs))
    }

    /// Attention added to the residual stream, and the inputs of q and of o.
    fn attention(
        &self,
        tape: &Tape,
        x: &Value,
        table: &RopeTable,
        cache: Option<&mut LayerCache>,
    ) -> Result<(Value, [Value; 2])> {
        let (normed, [q, k, mut v]) = self.project(tape, x)?;
        let (q, mut k) = (rope(tape, &q, table)?, rope(tape, &k, table)?);
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
        let mixed = mixed.reshaped((batch, tokens, heads * width))?;
        let x = add(tape, x, &self.o.forward(tape, &mixed)?)?;
        Ok((x, [normed, mixed]))
    }

    /// Applies the block to a subset of the tokens: `x` and the output are the states of the tokens
    /// at `places`, indices into the flattened (B, T), (1, n, D). They attend to the latest keys and
    /// values of all tokens, `last`, which is updated. While `last` is empty, the block is applied to
    /// all tokens, (B, T, D).
    ///
    /// # Errors
    /// The shapes of `x`, `places` and `last` do not match.
    pub fn forward_active(
        &self,
        tape: &Tape,
        x: &Value,
        table: &RopeTable,
        places: &[usize],
        last: &mut Option<LastKeys>,
    ) -> Result<Value> {
        let (_, [mut q, mut keys, mut values]) = self.project(tape, x)?;
        if let Some(last) = last {
            let (batch, tokens, _, width) = last.keys.tensor().dims4()?;
            let all = (batch, tokens, q.tensor().dim(2)?, width);
            let zeros = Tensor::zeros(all, q.tensor().dtype(), q.tensor().device())?;
            q = scatter(tape, &Value::constant(zeros), &q, places)?;
            keys = scatter(tape, &last.keys, &keys, places)?;
            values = scatter(tape, &last.values, &values, places)?;
        }
        let shape = AttentionShape { start: 0, window: self.shape.window };
        let (q, k) = (rope(tape, &q, table)?, rope(tape, &keys, table)?);
        let mixed = attention(tape, &q, &k, &values, shape)?;
        let (batch, tokens, heads, width) = mixed.tensor().dims4()?;
        let mut mixed = mixed.reshaped((batch, tokens, heads * width))?;
        if last.is_some() {
            mixed = gather(tape, &mixed, places)?.reshaped((1, places.len(), heads * width))?;
        }
        *last = Some(LastKeys { keys, values });
        let x = add(tape, x, &self.o.forward(tape, &mixed)?)?;
        Ok(self.mlp(tape, &x)?.0)
    }

    /// The normed state, (B, T, D), and its queries, keys and values, each (B, T, heads, head width).
    fn project(&self, tape: &Tape, x: &Value) -> Result<(Value, [Value; 3])> {
        let normed = rms_norm(tape, x, &self.attention_norm, self.shape.norm_eps)?;
        let q = self.heads(tape, &self.q, self.q_norm.as_ref(), &normed)?;
        let k = self.heads(tape, &self.k, self.k_norm.as_ref(), &normed)?;
        let v = self.heads(tape, &self.v, None, &normed)?;
        Ok((normed, [q, k, v]))
    }

    /// The MLP added to the residual stream, and the inputs of gate and of down.
    fn mlp(&self, tape: &Tape, x: &Value) -> Result<(Value, [Value; 2])> {
        let normed = rms_norm(tape, x, &self.mlp_norm, self.shape.norm_eps)?;
        let gate = self.gate.forward(tape, &normed)?;
        let up = self.up.forward(tape, &normed)?;
        let inner = swiglu(tape, &gate, &up)?;
        let output = add(tape, x, &self.down.forward(tape, &inner)?)?;
        Ok((output, [normed, inner]))
    }

    /// Projects (B, T, D) to (B, T, heads, head width), with a norm over each head if there is one.
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
