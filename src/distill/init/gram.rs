//! Gram matrices of the inputs of the teacher's matrices on calibration text.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::Tensor;

use crate::autograd::Tape;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::kernels::gemm::{Into, Matrix, Threads, product};
use crate::kernels::host::Host;
use crate::model::{CausalLm, Transformer};

/// C = X^T X / tokens of the inputs X of every matrix in a range of layers.
pub(crate) struct GramMatrices {
    /// By layer and input: q, k and v share an input, and so do gate and up.
    sums: BTreeMap<(usize, &'static str), Vec<f32>>,
}

/// The name of the input of the matrix `name` of a layer.
fn input_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "attention.q.weight" | "attention.k.weight" | "attention.v.weight" => "attention",
        "attention.o.weight" => "mixed",
        "mlp.gate.weight" | "mlp.up.weight" => "mlp",
        "mlp.down.weight" => "inner",
        _ => return None,
    })
}

impl GramMatrices {
    /// Measures the Gram matrices of `layers` on the `calibration` tokens, each (B, T).
    pub(crate) fn measure(
        teacher: &Transformer,
        layers: Range<usize>,
        calibration: &[Tensor],
        context: &Context,
    ) -> Result<Self> {
        let mut grams = Self { sums: BTreeMap::new() };
        context.begin("calibrate", calibration.len() as u64, "batches");
        let outcome = calibration.iter().enumerate().try_for_each(|(index, ids)| {
            grams.add_batch(teacher, &layers, ids, context)?;
            context.advance(index as u64 + 1, "");
            Ok::<_, Error>(())
        });
        context.end();
        outcome?;
        let tokens: usize = calibration.iter().map(Tensor::elem_count).sum();
        if tokens == 0 {
            return Err(Error::input("there is no calibration text to initialise from")
                .hint("raise student.calibration_tokens, or choose another student.init"));
        }
        let share = 1.0 / tokens as f32;
        grams.sums.values_mut().for_each(|sum| sum.iter_mut().for_each(|x| *x *= share));
        Ok(grams)
    }

    /// Adds the inputs of the matrices of `layers` on one batch of tokens, (B, T).
    fn add_batch(
        &mut self,
        teacher: &Transformer,
        layers: &Range<usize>,
        ids: &Tensor,
        context: &Context,
    ) -> Result<()> {
        let table = teacher.embedding_and_head().rope(0, ids.dim(1)?);
        let mut state = teacher.embedding_and_head().embed(&Tape::off(), ids)?.tensor().clone();
        for layer in 0..layers.end {
            context.check_cancelled("during calibration of the student's initialization")?;
            let block = teacher.layer(layer).ok_or_else(|| Error::internal("no such layer"))?;
            let (output, inputs) = block.trace(&state, &table)?;
            if layers.contains(&layer) {
                let sums = &mut self.sums;
                add(sums.entry((layer, "attention")).or_default(), &inputs.attention)?;
                add(sums.entry((layer, "mixed")).or_default(), &inputs.mixed)?;
                add(sums.entry((layer, "mlp")).or_default(), &inputs.mlp)?;
                add(sums.entry((layer, "inner")).or_default(), &inputs.inner)?;
            }
            state = output;
        }
        Ok(())
    }

    /// C of the input of matrix `name` in `layer`, (inner, inner).
    pub(crate) fn get(&self, layer: usize, name: &str) -> Result<&[f32]> {
        let gram = input_of(name).and_then(|input| self.sums.get(&(layer, input)));
        gram.map(Vec::as_slice)
            .ok_or_else(|| Error::internal(format!("no Gram matrix of `{name}` in layer {layer}")))
    }
}

fn add(sum: &mut Vec<f32>, input: &Tensor) -> Result<()> {
    let input = input.to_device(&candle_core::Device::Cpu)?.contiguous()?;
    let width = input.dim(candle_core::D::Minus1)?;
    sum.resize(width * width, 0.0);
    let x = Host::new(&input)?;
    let x = Matrix::new(&x, x.len() / width, width);
    product(sum, Into::Add, 1.0, x.transposed(), x, Threads::All);
    Ok(())
}
