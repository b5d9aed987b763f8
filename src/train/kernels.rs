//! Fused optimizer kernels: AdamW and the moving average in one pass over memory.
//!
//! Every loop runs over chunks of a fixed size, and every sum over chunks is taken in order, so
//! the result is the same to the bit for any number of threads.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Storage, Tensor, Var};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::loops::vectorised;

/// Elements per chunk: 64 KiB of f32, so the four streams of a chunk stay in the L2 cache.
const CHUNK: usize = 1 << 14;

/// The scalars of one `AdamW` update, in the symbols of Loshchilov and Hutter 2019.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update {
    pub(super) beta1: f32,
    pub(super) beta2: f32,
    pub(super) eps: f32,
    /// 1 - lr * weight decay.
    pub(super) keep: f32,
    /// lr / (1 - beta1^t).
    pub(super) step_size: f32,
    /// 1 / sqrt(1 - beta2^t).
    pub(super) inverse_root: f32,
    /// Factor of the summed gradient: one over the micro-batches, times the clipping factor.
    pub(super) gradient_scale: f32,
}

/// The state that is updated together with a parameter.
pub(super) struct Moments<'a> {
    pub(super) m: &'a mut [f32],
    pub(super) v: &'a mut [f32],
    pub(super) average: Option<Average<'a>>,
}

/// A running average that moves towards the parameter by the fraction `rest`.
pub(super) struct Average<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) rest: f32,
}

/// Updates an f32 parameter on the CPU: parameter, gradient, moments and average in one pass.
pub(super) fn adamw(
    var: &Var,
    gradient: &Tensor,
    update: Update,
    moments: Moments<'_>,
) -> Result<()> {
    let op = AdamW { update, moments: RefCell::new(moments) };
    Ok(var.inplace_op2(gradient, &op)?)
}

struct AdamW<'a> {
    update: Update,
    /// candle calls the operation with `&self`.
    moments: RefCell<Moments<'a>>,
}

impl InplaceOp2 for AdamW<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        values_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), CpuStorage::F32(gradient)) = (values, gradient) else {
            candle_core::bail!("adamw expects f32 parameters and gradients")
        };
        let ranges = (values_layout.contiguous_offsets(), gradient_layout.contiguous_offsets());
        let (Some((start, end)), Some((gradient_start, gradient_end))) = ranges else {
            candle_core::bail!("adamw expects contiguous parameters and gradients")
        };
        let (values, gradient) = (&mut values[start..end], &gradient[gradient_start..gradient_end]);
        let Moments { m, v, average } = &mut *self.moments.borrow_mut();
        let update = self.update;
        let chunks = values.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
        let chunks = chunks.zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)));
        match average {
            None => chunks.for_each(|((values, gradient), (m, v))| {
                step_chunk(values, gradient, m, v, update);
            }),
            Some(Average { values: averages, rest }) => {
                chunks.zip(averages.par_chunks_mut(CHUNK)).for_each(
                    |(((values, gradient), (m, v)), average)| {
                        step_chunk(values, gradient, m, v, update);
                        // The chunk is still in the cache.
                        blend(average, values, *rest);
                    },
                );
            }
        }
        Ok(())
    }
}

/// Adds an f32 gradient on the CPU to a sum in place.
pub(super) fn add_to(sum: &Tensor, gradient: &Tensor) -> Result<()> {
    Ok(sum.inplace_op2(&gradient.contiguous()?, &AddTo)?)
}

struct AddTo;

impl InplaceOp2 for AddTo {
    fn name(&self) -> &'static str {
        "add-to"
    }

    fn cpu_fwd(
        &self,
        sums: &mut CpuStorage,
        sums_layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(sums), CpuStorage::F32(values)) = (sums, values) else {
            candle_core::bail!("gradients to be summed must be f32")
        };
        let ranges = (sums_layout.contiguous_offsets(), values_layout.contiguous_offsets());
        let (Some((start, end)), Some((values_start, values_end))) = ranges else {
            candle_core::bail!("gradients to be summed must be contiguous")
        };
        let values = values[values_start..values_end].par_chunks(CHUNK);
        sums[start..end].par_chunks_mut(CHUNK).zip(values).for_each(|(sums, values)| {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
        });
        Ok(())
    }
}

fn step_chunk(values: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], u: Update) {
    vectorised(
        #[inline(always)]
        || step(values, gradient, m, v, u),
    );
}

#[inline(always)]
fn step(values: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], u: Update) {
    let (rest1, rest2) = (1.0 - u.beta1, 1.0 - u.beta2);
    for (((value, &gradient), m), v) in values.iter_mut().zip(gradient).zip(m).zip(v) {
        let gradient = gradient * u.gradient_scale;
        // m_t = beta1 m + (1 - beta1) g; v_t = beta2 v + (1 - beta2) g^2
        // theta_t = (1 - lr wd) theta - lr / (1 - beta1^t) m_t / (sqrt(v_t / (1 - beta2^t)) + eps)
        *m = u.beta1 * *m + rest1 * gradient;
        *v = u.beta2 * *v + rest2 * (gradient * gradient);
        *value = *value * u.keep - u.step_size * *m / (v.sqrt() * u.inverse_root + u.eps);
    }
}

/// Moves `average` towards `values` by the fraction `rest`.
pub(super) fn average(average: &mut [f32], values: &[f32], rest: f32) {
    average
        .par_chunks_mut(CHUNK)
        .zip(values.par_chunks(CHUNK))
        .for_each(|(average, values)| blend(average, values, rest));
}

fn blend(average: &mut [f32], values: &[f32], rest: f32) {
    for (average, &value) in average.iter_mut().zip(values) {
        *average += rest * (value - *average);
    }
}

/// The sum of squares; f64: f32 loses the small gradients beside the large ones.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    if values.len() <= CHUNK {
        return chunk_squares(values);
    }
    let parts: Vec<f64> = values.par_chunks(CHUNK).map(chunk_squares).collect();
    parts.iter().sum()
}

/// [`squares`] compiled for the vector instructions of this processor.
fn chunk_squares(values: &[f32]) -> f64 {
    vectorised(
        #[inline(always)]
        || squares(values),
    )
}

#[inline(always)]
fn squares(values: &[f32]) -> f64 {
    // Eight running sums, which vectorise and still add in a fixed order.
    let mut sums = [0.0_f64; 8];
    let mut eights = values.chunks_exact(8);
    for lane_values in &mut eights {
        for (sum, &value) in sums.iter_mut().zip(lane_values) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    let rest: f64 = eights.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Calls `read` with the elements of a contiguous f32 tensor on the CPU.
pub(super) fn with_host<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            Ok(read(&values[start..end]))
        }
        _ => Err(Error::internal("expected a contiguous f32 tensor on the CPU")),
    }
}
