//! How do kernels reach numbers that live on the CPU?

use std::mem::MaybeUninit;
use std::ops::{Deref, Range};

use candle_core::{DType, Device, Shape, Storage, StorageRef, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Loops shorter than this many numbers run on one thread: waking another costs more.
const WORTH_SPLITTING: usize = 1 << 15;

/// A read lock on the numbers of a contiguous f32 tensor.
pub(crate) struct Host<'a> {
    guard: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Host<'a> {
    /// Locks `tensor` for reading.
    pub(crate) fn new(tensor: &'a Tensor) -> Result<Self> {
        let (guard, layout) = tensor.storage_and_layout();
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or_else(|| Error::internal("a kernel was given a strided tensor"))?;
        match &*guard {
            Storage::Cpu(_) if tensor.dtype() == DType::F32 => {
                Ok(Self { guard, range: start..end })
            }
            _ => Err(Error::internal("a CPU kernel was given a tensor that is not f32 on the CPU")),
        }
    }
}

impl Deref for Host<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(storage) => match storage.as_slice::<f32>() {
                Ok(values) => &values[self.range.clone()],
                Err(_) => &[],
            },
            _ => &[],
        }
    }
}

/// Whether the kernels of this room can work on `tensor`.
pub(crate) fn is_host(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// A CPU tensor from its numbers, without a copy.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape.into(), &Device::Cpu)?)
}

/// Runs `work` with the widest vector instructions this processor has.
#[inline]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// How many rows one task takes, so that each thread has a few tasks or everything is one.
fn rows_per_task(rows: usize, width: usize) -> usize {
    if rows * width < WORTH_SPLITTING {
        rows.max(1)
    } else {
        rows.div_ceil(4 * rayon::current_num_threads()).max(1)
    }
}

/// `count` new numbers, written row by row in parallel: `fill(row, numbers of that row)` finds
/// zeros.
pub(crate) fn new_rows(
    count: usize,
    width: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let chunk = rows_per_task(count / width, width);
    new_chunks(
        count,
        chunk * width,
        #[inline(always)]
        |start, values| {
            for (row, values) in values.chunks_exact_mut(width).enumerate() {
                fill(start / width + row, values);
            }
        },
    )
}

/// `count` new numbers, written range by range in parallel: `fill(range, numbers of that range)`
/// finds zeros.
pub(crate) fn new_ranges(count: usize, fill: impl Fn(Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
    let chunk = rows_per_task(count, 1);
    new_chunks(
        count,
        chunk,
        #[inline(always)]
        |start, values| fill(start..start + values.len(), values),
    )
}

/// As many new numbers as `beside` has, written range by range in parallel together with it:
/// `fill(range, new numbers, numbers of beside)`.
pub(crate) fn new_ranges_beside(
    beside: &mut [f32],
    fill: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let count = beside.len();
    let chunk = rows_per_task(count, 1);
    let mut output = Vec::with_capacity(count);
    let run = |(task, (new, beside)): (usize, (&mut [MaybeUninit<f32>], &mut [f32]))| {
        let (start, new) = (task * chunk, zeroed(new));
        vectorised(
            #[inline(always)]
            || fill(start..start + new.len(), new, beside),
        );
    };
    if chunk >= count {
        run((0, (spare(&mut output, count), beside)));
    } else {
        let tasks = spare(&mut output, count).par_chunks_mut(chunk);
        tasks.zip(beside.par_chunks_mut(chunk)).enumerate().for_each(run);
    }
    written(output, count)
}

/// `rows` rows of two new buffers, `widths.0` and `widths.1` numbers each, written in parallel:
/// `fill(row, row of the first, row of the second)` finds zeros.
pub(crate) fn new_row_pairs(
    rows: usize,
    widths: (usize, usize),
    fill: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let task_rows = rows_per_task(rows, widths.0 + widths.1);
    let (mut first, mut second) =
        (Vec::with_capacity(rows * widths.0), Vec::with_capacity(rows * widths.1));
    let (a, b) = (spare(&mut first, rows * widths.0), spare(&mut second, rows * widths.1));
    let run = |(task, (a, b)): (usize, (&mut [MaybeUninit<f32>], &mut [MaybeUninit<f32>]))| {
        let (a, b) = (zeroed(a), zeroed(b));
        let both = a.chunks_exact_mut(widths.0).zip(b.chunks_exact_mut(widths.1));
        vectorised(
            #[inline(always)]
            || {
                for (row, (a, b)) in both.enumerate() {
                    fill(task * task_rows + row, a, b);
                }
            },
        );
    };
    if task_rows >= rows {
        run((0, (a, b)));
    } else {
        let tasks = a.par_chunks_mut(task_rows * widths.0);
        tasks.zip(b.par_chunks_mut(task_rows * widths.1)).enumerate().for_each(run);
    }
    (written(first, rows * widths.0), written(second, rows * widths.1))
}

/// Memory is set to zero by the task that fills it, while it is in that core's cache.
fn new_chunks(count: usize, chunk: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut output: Vec<f32> = Vec::with_capacity(count);
    let run = |(task, values): (usize, &mut [MaybeUninit<f32>])| {
        let values = zeroed(values);
        vectorised(
            #[inline(always)]
            || fill(task * chunk, values),
        );
    };
    let spare = spare(&mut output, count);
    if chunk >= count {
        run((0, spare));
    } else {
        spare.par_chunks_mut(chunk).enumerate().for_each(run);
    }
    written(output, count)
}

fn spare(values: &mut Vec<f32>, count: usize) -> &mut [MaybeUninit<f32>] {
    &mut values.spare_capacity_mut()[..count]
}

fn zeroed(values: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    values.fill(MaybeUninit::new(0.0));
    #[expect(unsafe_code, reason = "the standard library's safe form is not stable")]
    // SAFETY: every number was written in the line above.
    unsafe {
        values.assume_init_mut()
    }
}

/// The first `count` numbers of the spare capacity, every one of them written by [`zeroed`] in a
/// chunk of its own; the chunks cover them.
fn written(mut values: Vec<f32>, count: usize) -> Vec<f32> {
    assert!(count <= values.capacity());
    #[expect(
        unsafe_code,
        reason = "filling memory with zeros on one thread takes a fifth of a step"
    )]
    // SAFETY: the capacity is at least `count`, and both callers have every chunk written.
    unsafe {
        values.set_len(count);
    }
    values
}

/// Element by element over numbers that are there, in parallel: `fill(range, numbers of it)`.
pub(crate) fn fill_ranges(output: &mut [f32], fill: impl Fn(Range<usize>, &mut [f32]) + Sync) {
    let count = output.len();
    let chunk = rows_per_task(count, 1);
    let run = |(task, values): (usize, &mut [f32])| {
        let start = task * chunk;
        vectorised(
            #[inline(always)]
            || fill(start..start + values.len(), values),
        );
    };
    if chunk >= count {
        run((0, output));
    } else {
        output.par_chunks_mut(chunk).enumerate().for_each(run);
    }
}

/// Row by row over numbers that are there, in parallel: `fill(row, numbers of that row)`.
pub(crate) fn fill_rows(output: &mut [f32], width: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
    let chunk = rows_per_task(output.len() / width, width);
    let run = |(task, rows): (usize, &mut [f32])| {
        vectorised(
            #[inline(always)]
            || {
                for (row, values) in rows.chunks_exact_mut(width).enumerate() {
                    fill(task * chunk + row, values);
                }
            },
        );
    };
    if chunk * width >= output.len() {
        run((0, output));
    } else {
        output.par_chunks_mut(chunk * width).enumerate().for_each(run);
    }
}

/// `count` zeros.
pub(crate) fn zeros(count: usize) -> Vec<f32> {
    new_ranges(count, |_, _| ())
}

/// The same numbers in new memory.
pub(crate) fn copy(values: &[f32]) -> Vec<f32> {
    new_ranges(
        values.len(),
        #[inline(always)]
        |range, copy| copy.copy_from_slice(&values[range]),
    )
}

/// Adds `values` to `sums`, one to one.
pub(crate) fn add_to(sums: &mut [f32], values: &[f32]) {
    fill_ranges(
        sums,
        #[inline(always)]
        |range, sums| {
            for (sum, value) in sums.iter_mut().zip(&values[range]) {
                *sum += value;
            }
        },
    );
}

/// The sum of two CPU tensors of as many numbers, in the shape of the second.
pub(crate) fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (x, y) = (Host::new(a)?, Host::new(b)?);
    let (x, y): (&[f32], &[f32]) = (&x, &y);
    let sum = new_ranges(
        x.len(),
        #[inline(always)]
        |range, values| {
            let both = x[range.clone()].iter().zip(&y[range]);
            for (value, (x, y)) in values.iter_mut().zip(both) {
                *value = x + y;
            }
        },
    );
    tensor(sum, b.shape())
}

/// Sums, over fixed blocks of rows, what `block` adds into a buffer of `width` numbers. The blocks
/// do not depend on the number of threads, so neither do the sums.
pub(crate) fn sum_over_rows(
    rows: usize,
    width: usize,
    block: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    const BLOCK: usize = 64;
    let partial: Vec<Vec<f32>> = (0..rows.div_ceil(BLOCK))
        .into_par_iter()
        .with_min_len((WORTH_SPLITTING / (BLOCK * width)).max(1))
        .map(|index| {
            let mut sums = vec![0.0; width];
            let range = index * BLOCK..((index + 1) * BLOCK).min(rows);
            vectorised(
                #[inline(always)]
                || block(range, &mut sums),
            );
            sums
        })
        .collect();
    let mut total = vec![0.0; width];
    for sums in &partial {
        for (sum, value) in total.iter_mut().zip(sums) {
            *sum += value;
        }
    }
    total
}

/// `e^x`, within 2 units in the last place for finite results, in a form that compilers vectorise.
// Cephes expf: x = n ln 2 + r, e^r by a polynomial, 2^n by the exponent bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    (p * r * r + r + 1.0) * f32::from_bits(power)
}

/// The dot product, in eight running sums so that it vectorises; the order is fixed.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (a_rows, b_rows) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_rows.remainder().iter().zip(b_rows.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_rows.zip(b_rows) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// The largest number, minus infinity of none, in running maxima as [`dot`].
#[inline(always)]
pub(crate) fn highest(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut most = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let tail = chunks.remainder().iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = if chunk[lane] > most[lane] { chunk[lane] } else { most[lane] };
        }
    }
    most.iter().fold(tail, |a, &b| a.max(b))
}

/// The sum, in running sums as [`dot`].
#[inline(always)]
pub(crate) fn sum_of(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let tail: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// sum a b c, in running sums as [`dot`].
#[inline(always)]
pub(crate) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let width = a.len().min(b.len()).min(c.len());
    let (a, b, c) = (&a[..width], &b[..width], &c[..width]);
    let whole = width / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let (a, b, c) = (&a[start..][..LANES], &b[start..][..LANES], &c[start..][..LANES]);
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane] * c[lane];
        }
    }
    let tail: f32 = (whole..width).map(|i| a[i] * b[i] * c[i]).sum();
    sums.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in -8600..8700 {
            let x = step as f32 * 0.01;
            let error = (exp(x) - x.exp()).abs() / x.exp();
            assert!(error < 2.5e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn sums_do_not_depend_on_the_number_of_threads() {
        let values: Vec<f32> = (0..1000 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
        let sum = || {
            sum_over_rows(
                1000,
                64,
                #[inline(always)]
                |rows, sums| {
                    for row in rows {
                        for (sum, value) in sums.iter_mut().zip(&values[row * 64..]) {
                            *sum += value;
                        }
                    }
                },
            )
        };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool(1).install(sum), pool(3).install(sum));
    }
}
