//! RMS norm and layer norm over the last axis.

use candle_core::{D, DType, Tensor};

use super::linear::add_rows;
use crate::autograd::backward::Gradient;
use crate::autograd::{Tape, Value, Weight};
use crate::error::Result;
use crate::kernels::host::{self, Host};

/// y = weight * x / sqrt(mean(x^2) + eps) over the last axis: (.., D) by (D). Zhang & Sennrich 2019.
///
/// # Errors
/// The width of `x` is not that of `weight`.
pub fn rms_norm(tape: &Tape, x: &Value, weight: &Weight, eps: f64) -> Result<Value> {
    if tape.has_cpu_kernel(x.tensor()) {
        return fused(tape, x, weight, None, RowNorm { centre: Centre::Zero, eps: eps as f32 });
    }
    if tape.is_inference(&[x], &[weight]) {
        return Ok(Value::constant(inference::rms_norm(x.tensor(), weight.tensor(), eps)?));
    }
    tape.composed(&[x], &[weight], |x, weights| composed_rms_norm(&x[0], &weights[0], eps))
}

/// y = weight * (x - mean(x)) / sqrt(variance(x) + eps) + bias over the last axis: (.., D) by (D).
/// Ba et al. 2016.
///
/// # Errors
/// The width of `x` is not that of `weight` or of `bias`.
pub fn layer_norm(
    tape: &Tape,
    x: &Value,
    weight: &Weight,
    bias: Option<&Weight>,
    eps: f64,
) -> Result<Value> {
    if tape.has_cpu_kernel(x.tensor()) {
        return fused(tape, x, weight, bias, RowNorm { centre: Centre::Mean, eps: eps as f32 });
    }
    let weights: Vec<&Weight> = std::iter::once(weight).chain(bias).collect();
    if tape.is_inference(&[x], &weights) {
        let bias = bias.map(Weight::tensor);
        let output = inference::layer_norm(x.tensor(), weight.tensor(), bias, eps)?;
        return Ok(Value::constant(output));
    }
    tape.composed(&[x], &weights, |x, weights| composed_layer_norm(&x[0], weights, eps))
}

/// [`rms_norm`] of the rows of `x`, each as wide as `weight`, for decoding.
pub(crate) fn rms_norm_rows(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let (width, norm) = (weight.len(), RowNorm { centre: Centre::Zero, eps });
    host::new_rows(
        x.len(),
        width,
        #[inline(always)]
        |row, y| norm.forward(&x[row * width..(row + 1) * width], weight, None, y),
    )
}

/// [`rms_norm`] composed of candle's operations.
pub(super) fn composed_rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let mean = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let unit = wide.broadcast_div(&(mean + eps)?.sqrt()?)?.to_dtype(x.dtype())?;
    Ok(unit.broadcast_mul(weight)?)
}

/// [`layer_norm`] composed of candle's operations; `weights` is the weight, then the bias, if there
/// is one.
fn composed_layer_norm(x: &Tensor, weights: &[Tensor], eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let unit = centred.broadcast_div(&(variance + eps)?.sqrt()?)?.to_dtype(x.dtype())?;
    let y = unit.broadcast_mul(&weights[0])?;
    weights.get(1).map_or(Ok(y.clone()), |bias| Ok(y.broadcast_add(bias)?))
}

/// candle's kernels, for devices and types without one here. They drop the gradient.
#[expect(clippy::disallowed_methods, reason = "called where no gradient is required")]
mod inference {
    use candle_core::Tensor;

    use crate::error::Result;

    pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(&x.contiguous()?, &weight.contiguous()?, eps as f32)?)
    }

    pub(super) fn layer_norm(
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        let weight = weight.contiguous()?;
        // The kernel requires a bias.
        let bias = bias.map_or_else(|| weight.zeros_like(), Tensor::contiguous)?;
        Ok(candle_nn::ops::layer_norm(&x.contiguous()?, &weight, &bias, eps as f32)?)
    }
}

/// The centre that a row is normalised around: zero in an RMS norm, the mean in a layer norm.
#[derive(Debug, Clone, Copy)]
enum Centre {
    Zero,
    Mean,
}

/// The norm of one row.
#[derive(Debug, Clone, Copy)]
struct RowNorm {
    centre: Centre,
    eps: f32,
}

impl RowNorm {
    /// The centre of the row, and the inverse root of its mean square around it.
    #[inline(always)]
    fn measure(self, x: &[f32]) -> (f32, f32) {
        let width = x.len() as f32;
        let mean = match self.centre {
            Centre::Zero => 0.0,
            Centre::Mean => host::sum_of(x, |x| x) / width,
        };
        let squares = host::sum_of(x, |x| (x - mean) * (x - mean));
        (mean, 1.0 / (squares / width + self.eps).sqrt())
    }

    #[inline(always)]
    fn forward(self, x: &[f32], scale: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let (mean, inverse) = self.measure(x);
        for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
            *y = (x - mean) * inverse * scale;
        }
        for (y, bias) in y.iter_mut().zip(bias.unwrap_or_default()) {
            *y += bias;
        }
    }

    /// Adds the gradient of a row to `dx`, and those of the weight, then the bias, to `sums`, as far
    /// as it is long.
    #[inline(always)]
    fn backward(self, x: &[f32], dy: &[f32], scale: &[f32], dx: &mut [f32], sums: &mut [f32]) {
        let (mean, inverse) = self.measure(x);
        let (weights, biases) = sums.split_at_mut(x.len().min(sums.len()));
        for ((sum, x), dy) in weights.iter_mut().zip(x).zip(dy) {
            *sum += dy * (x - mean) * inverse;
        }
        for (sum, dy) in biases.iter_mut().zip(dy) {
            *sum += dy;
        }
        // dx = inverse (g - mean(g) - z inverse^2 mean(g z)), g = dy * scale, z = x - centre;
        // an RMS norm has no mean(g).
        let [sum, projection] = host::sums_of(
            [dy, scale, x],
            #[inline(always)]
            |[dy, scale, x]| [dy * scale, dy * scale * (x - mean)],
        );
        let width = x.len() as f32;
        let projection = projection / width * inverse * inverse;
        let shift = match self.centre {
            Centre::Zero => 0.0,
            Centre::Mean => sum / width,
        };
        for (dx, ((dy, scale), x)) in dx.iter_mut().zip(dy.iter().zip(scale).zip(x)) {
            *dx += (dy * scale - shift - (x - mean) * projection) * inverse;
        }
    }
}

fn fused(
    tape: &Tape,
    x: &Value,
    weight: &Weight,
    bias: Option<&Weight>,
    norm: RowNorm,
) -> Result<Value> {
    let input = x.tensor().contiguous()?;
    let width = weight.tensor().elem_count();
    let output = {
        let (x, scale) = (Host::new(&input)?, Host::new(weight.tensor())?);
        let bias = bias.map(|bias| Host::new(bias.tensor())).transpose()?;
        let (x, scale, bias): (&[f32], &[f32], _) = (&x, &scale, bias.as_deref());
        let y = host::new_rows(
            x.len(),
            width,
            #[inline(always)]
            |row, y| norm.forward(&x[row * width..(row + 1) * width], scale, bias, y),
        );
        host::tensor(y, input.shape())?
    };
    let weights: Vec<&Weight> = std::iter::once(weight).chain(bias).collect();
    if !tape.requires_grad(&[x], &weights) {
        return Ok(Value::constant(output));
    }
    let trained: Vec<usize> = weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| weight.trained_name().is_some())
        .map(|(index, _)| index)
        .collect();
    // The gradient of a frozen weight is computed only where that of its bias follows it.
    let sums = trained.last().map_or(0, |last| (last + 1) * width);
    let (weight, bias, slot) = (weight.clone(), bias.cloned(), x.slot());
    Ok(tape.push(output, move |gradient, backward| {
        let gradient = gradient.contiguous()?;
        let (x, dy, scale) =
            (Host::new(&input)?, Host::new(&gradient)?, Host::new(weight.tensor())?);
        let (x, dy, scale): (&[f32], &[f32], &[f32]) = (&x, &dy, &scale);
        let span = |row: usize| row * width..(row + 1) * width;
        // One pass reads x and dy, and adds to the existing gradient.
        let (dx, sums) = match backward.take(slot) {
            Some(Gradient::Shared(before)) => {
                let before = before.contiguous()?;
                let before = Host::new(&before)?;
                let before: &[f32] = &before;
                host::new_rows_and_sum(
                    x.len(),
                    width,
                    sums,
                    #[inline(always)]
                    |row, dx, sums| {
                        dx.copy_from_slice(&before[span(row)]);
                        norm.backward(&x[span(row)], &dy[span(row)], scale, dx, sums);
                    },
                )
            }
            Some(before) => {
                let mut dx = before.into_vec()?;
                let sums = host::fill_rows_and_sum(
                    &mut dx,
                    width,
                    sums,
                    #[inline(always)]
                    |row, dx, sums| norm.backward(&x[span(row)], &dy[span(row)], scale, dx, sums),
                );
                (dx, sums)
            }
            None => host::new_rows_and_sum(
                x.len(),
                width,
                sums,
                #[inline(always)]
                |row, dx, sums| norm.backward(&x[span(row)], &dy[span(row)], scale, dx, sums),
            ),
        };
        for (weight, sums) in std::iter::once(&weight).chain(&bias).zip(sums.chunks_exact(width)) {
            backward.sum_weight(weight, |sum| add_rows(sum, sums));
        }
        backward.add_vec(slot, dx, gradient.shape())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::test_support::{assert_close, wave};

    #[test]
    fn the_inference_kernels_agree_with_the_composed_operations() {
        // Strided: the kernels require contiguous tensors.
        let x = wave(&[3, 40, 50], 0.0).transpose(0, 1).unwrap();
        let (weight, bias) = (wave(&[50], 0.3), wave(&[50], 0.9));
        let composed = composed_rms_norm(&x, &weight, 1e-5).unwrap();
        assert_close(&inference::rms_norm(&x, &weight, 1e-5).unwrap(), &composed);
        let composed = composed_layer_norm(&x, std::slice::from_ref(&weight), 1e-5).unwrap();
        assert_close(&inference::layer_norm(&x, &weight, None, 1e-5).unwrap(), &composed);
        let composed = composed_layer_norm(&x, &[weight.clone(), bias.clone()], 1e-5).unwrap();
        assert_close(&inference::layer_norm(&x, &weight, Some(&bias), 1e-5).unwrap(), &composed);
    }
}
