//! Loops over slices, split among threads and compiled for the vector instructions of the machine.
//!
//! The body of a loop must be inlined into the function that enables the vector instructions:
//! closures passed to these loops, and what they call for every element, are `inline(always)`.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

/// Loops over fewer elements run on one thread: waking another costs more.
const WORTH_SPLITTING: usize = 1 << 15;

/// Runs `work` with the widest vector instructions of this processor.
#[inline]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Rows of one task: a few tasks for each thread, or one task for a small loop.
fn rows_per_task(rows: usize, width: usize) -> usize {
    if rows * width < WORTH_SPLITTING || threads() == 1 {
        rows.max(1)
    } else {
        rows.div_ceil(4 * threads()).max(1)
    }
}

thread_local! {
    static SINGLE_THREADED: Cell<bool> = const { Cell::new(false) };
}

/// Threads that a loop started on this thread is split among.
pub(crate) fn threads() -> usize {
    if SINGLE_THREADED.get() { 1 } else { rayon::current_num_threads() }
}

/// Runs `work` on this thread without splitting its loops: for when all threads are busy already.
pub(crate) fn single_threaded<R>(work: impl FnOnce() -> R) -> R {
    let before = SINGLE_THREADED.replace(true);
    let result = work();
    SINGLE_THREADED.set(before);
    result
}

/// `count` new values, written row by row in parallel by `fill(row, values of the row)`, which
/// starts from zeros.
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

/// `count` new values, written range by range in parallel by `fill(range, values of the range)`,
/// which starts from zeros.
pub(crate) fn new_ranges(count: usize, fill: impl Fn(Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
    let chunk = rows_per_task(count, 1);
    new_chunks(
        count,
        chunk,
        #[inline(always)]
        |start, values| fill(start..start + values.len(), values),
    )
}

/// As many new values as `existing` has, written in parallel together with it by
/// `fill(range, new values, existing values)`.
pub(crate) fn new_ranges_with(
    existing: &mut [f32],
    fill: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let count = existing.len();
    let chunk = rows_per_task(count, 1);
    let mut output = Vec::with_capacity(count);
    let run = |(task, (new, existing)): (usize, (&mut [MaybeUninit<f32>], &mut [f32]))| {
        let (start, new) = (task * chunk, zeroed(new));
        vectorised(
            #[inline(always)]
            || fill(start..start + new.len(), new, existing),
        );
    };
    if chunk >= count {
        run((0, (spare(&mut output, count), existing)));
    } else {
        let tasks = spare(&mut output, count).par_chunks_mut(chunk);
        tasks.zip(existing.par_chunks_mut(chunk)).enumerate().for_each(run);
    }
    written(output, count)
}

/// Two new buffers of `rows` rows, `widths.0` and `widths.1` wide, written in parallel by
/// `fill(row, row of the first, row of the second)`, which starts from zeros.
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

/// Each task zeroes its own memory, while it is in the cache of its core.
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

/// Uninitialised memory.
type Spare<'a> = &'a mut [MaybeUninit<f32>];

fn spare(values: &mut Vec<f32>, count: usize) -> &mut [MaybeUninit<f32>] {
    &mut values.spare_capacity_mut()[..count]
}

fn zeroed(values: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    values.fill(MaybeUninit::new(0.0));
    #[expect(unsafe_code, reason = "the standard library's safe form is not stable")]
    // SAFETY: every element was written in the line above.
    unsafe {
        values.assume_init_mut()
    }
}

/// Takes the first `count` elements of the spare capacity as written: the chunks that [`zeroed`]
/// has initialised cover them.
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

/// Updates existing values in parallel by `fill(range, values of the range)`.
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

/// Updates existing rows in parallel by `fill(row, values of the row)`.
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

/// A copy of `values`.
pub(crate) fn copy(values: &[f32]) -> Vec<f32> {
    new_ranges(
        values.len(),
        #[inline(always)]
        |range, copy| copy.copy_from_slice(&values[range]),
    )
}

/// Adds `values` to `sums`, element by element.
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

/// Rows summed into one buffer: fixed, so that sums over rows do not depend on the number of
/// threads.
const BLOCK: usize = 64;

/// The sum, over fixed blocks of rows, of what `block` adds to a buffer of `width` elements.
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

/// Updates existing rows in parallel and returns `sums` sums over all rows:
/// `fill(row, values of the row, sums to add to)`.
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

/// `count` new values and `sums` sums over all rows, as [`fill_rows_and_sum`]; `fill` starts from
/// zeros.
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

/// The sum, in order, of what `run(first row, block, sums)` adds to `sums` elements for each block.
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
