//! How does a loop use every core, and the vector instructions of each?
//!
//! What a loop runs must end up inside the function that has the vector instructions: closures that
//! are given to it, and what they call for every number, are `inline(always)`.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

/// Loops shorter than this many numbers run on one thread: waking another costs more.
const WORTH_SPLITTING: usize = 1 << 15;

/// Runs `work` with the widest vector instructions this processor has.
#[inline]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// How many rows one task takes, so that each thread has a few tasks or everything is one.
fn rows_per_task(rows: usize, width: usize) -> usize {
    if rows * width < WORTH_SPLITTING || threads() == 1 {
        rows.max(1)
    } else {
        rows.div_ceil(4 * threads()).max(1)
    }
}

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// How many threads a loop of this thread is split among.
pub(crate) fn threads() -> usize {
    if ALONE.get() { 1 } else { rayon::current_num_threads() }
}

/// Runs `work` on this thread, whose loops are not split: for when every thread has as much to do.
pub(crate) fn alone<R>(work: impl FnOnce() -> R) -> R {
    let before = ALONE.replace(true);
    let found = work();
    ALONE.set(before);
    found
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
    let run = |(task, (a, b)): (usize, (Spare<'_>, Spare<'_>))| {
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

/// Memory that nothing was written to yet.
type Spare<'a> = &'a mut [MaybeUninit<f32>];

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
    // SAFETY: the capacity is at least `count`, and every caller has every chunk written.
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

/// Rows that are summed into one buffer: fixed, so that sums over rows do not depend on the number
/// of threads.
const BLOCK: usize = 64;

/// Sums, over fixed blocks of rows, what `block` adds into a buffer of `width` numbers.
pub(crate) fn sum_over_rows(
    rows: usize,
    width: usize,
    block: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let blocks = (0..rows.div_ceil(BLOCK)).into_par_iter();
    sum_over_blocks(
        blocks,
        width,
        width,
        #[inline(always)]
        |start, _, sums| block(start..(start + BLOCK).min(rows), sums),
    )
}

/// Row by row over numbers that are there, in parallel, with `sums` sums over all rows beside:
/// `fill(row, numbers of that row, sums to add to)`.
pub(crate) fn fill_rows_and_sum(
    output: &mut [f32],
    width: usize,
    sums: usize,
    fill: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    sum_over_blocks(
        output.par_chunks_mut(BLOCK * width),
        width,
        sums,
        #[inline(always)]
        |start, rows, sums| {
            for (row, values) in rows.chunks_exact_mut(width).enumerate() {
                fill(start + row, values, sums);
            }
        },
    )
}

/// The same for `count` new numbers; `fill` finds zeros.
pub(crate) fn new_rows_and_sum(
    count: usize,
    width: usize,
    sums: usize,
    fill: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let mut output = Vec::with_capacity(count);
    let blocks = spare(&mut output, count).par_chunks_mut(BLOCK * width);
    let sums = sum_over_blocks(
        blocks,
        width,
        sums,
        #[inline(always)]
        |start, rows, sums| {
            for (row, values) in zeroed(rows).chunks_exact_mut(width).enumerate() {
                fill(start + row, values, sums);
            }
        },
    );
    (written(output, count), sums)
}

/// What `run(first row, block, sums)` adds into `sums` numbers for each block, in order.
fn sum_over_blocks<B: Send>(
    blocks: impl IndexedParallelIterator<Item = B>,
    width: usize,
    sums: usize,
    run: impl Fn(usize, B, &mut [f32]) + Sync,
) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = blocks
        .enumerate()
        .with_min_len((WORTH_SPLITTING / (BLOCK * width)).max(1))
        .map(|(index, block)| {
            let mut partial = vec![0.0; sums];
            vectorised(
                #[inline(always)]
                || run(index * BLOCK, block, &mut partial),
            );
            partial
        })
        .collect();
    let mut total = vec![0.0; sums];
    for partial in &partial {
        for (sum, value) in total.iter_mut().zip(partial) {
            *sum += value;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

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
