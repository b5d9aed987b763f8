//! The linear layer, with an optional bias and an optional low-rank correction (LoRA).

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Tensor, TensorId};

use crate::autograd::backward::Backward;
use crate::autograd::{Tape, Value, Weight, Weights};
use crate::error::Result;
use crate::kernels::gemm::{Into, Matrix, Threads, new_product, product};
use crate::kernels::host::{self, Host};
use crate::kernels::{QuantizedMatrix, WeightType};

/// A low-rank correction of a matrix: W + B A. Hu et al. 2021.
#[derive(Debug, Clone)]
pub struct LowRank {
    /// A, (rank, in).
    pub a: Weight,
    /// B, (out, rank).
    pub b: Weight,
}

/// y = x (W + B A)^T + bias.
#[derive(Debug, Clone)]
pub struct Linear {
    /// W, (out, in).
    pub weight: Weight,
    /// Added to every row, (out).
    pub bias: Option<Weight>,
    /// B A.
    pub low_rank: Option<LowRank>,
}

impl Linear {
    /// Takes `name.weight` and, where they exist, `name.bias` and the low-rank correction of
    /// `repetition`.
    ///
    /// # Errors
    /// The weight, or one half of the correction, is missing.
    pub fn new(weights: &dyn Weights, name: &str, repetition: Option<usize>) -> Result<Self> {
        let part = |part: &str| repetition.map(|r| format!("{name}.lora.{r}.{part}"));
        let low_rank = match (part("a").filter(|a| weights.has(a)), part("b")) {
            (Some(a), Some(b)) => Some(LowRank { a: weights.weight(&a)?, b: weights.weight(&b)? }),
            _ => None,
        };
        Ok(Self {
            weight: weights.weight(&format!("{name}.weight"))?,
            bias: vector(weights, name, "bias", repetition)?,
            low_rank,
        })
    }

    /// Applies the layer: (.., in) to (.., out).
    ///
    /// # Errors
    /// The width of `x` is not that of the weight.
    pub fn forward(&self, tape: &Tape, x: &Value) -> Result<Value> {
        if !tape.has_cpu_kernel(x.tensor()) {
            return tape
                .composed(&[x], &self.weights(), |x, weights| self.composed(&x[0], weights));
        }
        let input = x.tensor().contiguous()?;
        let (output, middle) = self.compute(&input)?;
        if !tape.requires_grad(&[x], &self.weights()) {
            return Ok(Value::constant(output));
        }
        let (linear, slot) = (self.clone(), x.slot());
        Ok(tape.push(output, move |gradient, backward| {
            linear.backward(&input, slot, middle.as_deref(), &gradient, backward)
        }))
    }

    /// The weight, then the bias, then A and B, where they exist.
    fn weights(&self) -> Vec<&Weight> {
        let low_rank = self.low_rank.iter().flat_map(|low_rank| [&low_rank.a, &low_rank.b]);
        std::iter::once(&self.weight).chain(&self.bias).chain(low_rank).collect()
    }

    /// The layer composed of candle's operations; `weights` are those of [`Self::weights`].
    fn composed(&self, x: &Tensor, weights: &[Tensor]) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let inner = shape.pop().unwrap_or(1);
        shape.push(weights[0].dim(0)?);
        let flat = x.contiguous()?.reshape(((), inner))?;
        let mut y = flat.matmul(&weights[0].t()?)?;
        if let (Some(_), [.., a, b]) = (&self.low_rank, weights) {
            y = (y + flat.matmul(&a.t()?)?.matmul(&b.t()?)?)?;
        }
        if self.bias.is_some() {
            y = y.broadcast_add(&weights[1])?;
        }
        Ok(y.reshape(shape)?)
    }

    /// The output, and x A^T of the low-rank correction, stored for the backward pass.
    fn compute(&self, input: &Tensor) -> Result<(Tensor, Option<Vec<f32>>)> {
        let (out, inner) = self.weight.tensor().dims2()?;
        let x = Host::new(input)?;
        let rows = x.len() / inner;
        let x = Matrix::new(&x, rows, inner);
        let weight = Host::new(self.weight.tensor())?;
        let weight = Matrix::new(&weight, out, inner).transposed();
        let mut y = new_product(x, weight, Threads::All);
        let middle = match &self.low_rank {
            None => None,
            Some(low_rank) => {
                let (a, b) = (Host::new(low_rank.a.tensor())?, Host::new(low_rank.b.tensor())?);
                let rank = a.len() / inner;
                let a = Matrix::new(&a, rank, inner).transposed();
                let middle = new_product(x, a, Threads::All);
                let b = Matrix::new(&b, out, rank).transposed();
                product(&mut y, Into::Add, 1.0, Matrix::new(&middle, rows, rank), b, Threads::All);
                Some(middle)
            }
        };
        if let Some(bias) = &self.bias {
            let bias = Host::new(bias.tensor())?;
            host::fill_rows(
                &mut y,
                out,
                #[inline(always)]
                |_, row| {
                    for (value, bias) in row.iter_mut().zip(&*bias) {
                        *value += bias;
                    }
                },
            );
        }
        let mut shape = input.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = out;
        }
        Ok((host::tensor(y, shape)?, middle))
    }

    fn backward(
        &self,
        input: &Tensor,
        slot: Option<usize>,
        middle: Option<&[f32]>,
        gradient: &Tensor,
        backward: &mut Backward,
    ) -> Result<()> {
        let (out, inner) = self.weight.tensor().dims2()?;
        let (x, dy) = (Host::new(input)?, Host::new(gradient)?);
        let rows = x.len() / inner;
        let (x, dy_rows) = (Matrix::new(&x, rows, inner), Matrix::new(&dy, rows, out));
        let weight = Host::new(self.weight.tensor())?;
        let weight = Matrix::new(&weight, out, inner);
        backward.add_product_to(slot, dy_rows, weight, input.shape())?;
        backward.add_product(&self.weight, dy_rows.transposed(), x);
        if let Some(bias) = &self.bias {
            backward.sum_weight(bias, |sum| add_rows(sum, &dy));
        }
        if let (Some(low_rank), Some(middle)) = (&self.low_rank, middle) {
            let (a, b) = (Host::new(low_rank.a.tensor())?, Host::new(low_rank.b.tensor())?);
            let rank = a.len() / inner;
            let dm = new_product(dy_rows, Matrix::new(&b, out, rank), Threads::All);
            let dm = Matrix::new(&dm, rows, rank);
            backward.add_product_to(slot, dm, Matrix::new(&a, rank, inner), input.shape())?;
            backward.add_product(&low_rank.a, dm.transposed(), x);
            let middle = Matrix::new(middle, rows, rank);
            backward.add_product(&low_rank.b, dy_rows.transposed(), middle);
        }
        Ok(())
    }
}

/// Quantized matrices by the tensor they were made from: a shared block is stored once.
pub(crate) struct MatrixStore {
    weight_type: WeightType,
    matrices: HashMap<TensorId, Arc<QuantizedMatrix>>,
}

impl MatrixStore {
    pub(crate) fn new(weight_type: WeightType) -> Self {
        Self { weight_type, matrices: HashMap::new() }
    }

    /// The matrix of a weight, (out, in).
    pub(crate) fn matrix(&mut self, weight: &Weight) -> Result<Arc<QuantizedMatrix>> {
        let tensor = weight.tensor();
        if let Some(matrix) = self.matrices.get(&tensor.id()) {
            return Ok(matrix.clone());
        }
        let matrix = Arc::new(QuantizedMatrix::new(&host::to_host(tensor)?, self.weight_type)?);
        self.matrices.insert(tensor.id(), matrix.clone());
        Ok(matrix)
    }

    /// Bytes of all matrices.
    pub(crate) fn bytes(&self) -> usize {
        self.matrices.values().map(|matrix| matrix.bytes()).sum()
    }
}

/// A [`Linear`] layer with a quantized matrix, on rows, for decoding.
pub(crate) struct QuantizedLinear {
    weight: Arc<QuantizedMatrix>,
    bias: Option<Vec<f32>>,
    low_rank: Option<[QuantizedMatrix; 2]>,
}

impl QuantizedLinear {
    pub(crate) fn new(linear: &Linear, store: &mut MatrixStore) -> Result<Self> {
        let unquantized = |weight: &Weight| {
            QuantizedMatrix::new(&host::to_host(weight.tensor())?, WeightType::F32)
        };
        let low_rank = match &linear.low_rank {
            Some(low_rank) => Some([unquantized(&low_rank.a)?, unquantized(&low_rank.b)?]),
            None => None,
        };
        Ok(Self {
            weight: store.matrix(&linear.weight)?,
            bias: linear.bias.as_ref().map(Weight::to_vec).transpose()?,
            low_rank,
        })
    }

    /// Width of the output.
    pub(crate) fn out(&self) -> usize {
        self.weight.out()
    }

    /// Applies the layer: (rows, in) to (rows, out).
    pub(crate) fn apply(&self, x: &[f32]) -> Result<Vec<f32>> {
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

/// Adds all rows of `values` to `sum`.
pub(super) fn add_rows(sum: &mut [f32], values: &[f32]) {
    let width = sum.len();
    let total = host::sum_over_rows(
        values.len() / width,
        width,
        #[inline(always)]
        |rows, sums| {
            for row in values[rows.start * width..rows.end * width].chunks_exact(width) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value;
                }
            }
        },
    );
    for (sum, value) in sum.iter_mut().zip(&total) {
        *sum += value;
    }
}

/// The vector `name.kind`: that of `repetition` if there is one, else the shared one, else none.
pub(super) fn vector(
    weights: &dyn Weights,
    name: &str,
    kind: &str,
    repetition: Option<usize>,
) -> Result<Option<Weight>> {
    let own = repetition.map(|r| format!("{name}.repetition.{r}.{kind}"));
    let names = own.into_iter().chain([format!("{name}.{kind}")]);
    names.into_iter().find(|name| weights.has(name)).map(|name| weights.weight(&name)).transpose()
}
