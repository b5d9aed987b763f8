//! The product of two f32 matrices on the CPU, by the `gemm` crate, split among threads.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::loops;

/// A strided view of a matrix: transposes and attention heads need no copy.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A contiguous row-major matrix, (rows, columns).
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// A matrix whose rows start `row_stride` elements apart.
    pub(crate) fn strided(
        values: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        let matrix = Self { values, rows, columns, row_stride, column_stride: 1 };
        assert!(matrix.reach() <= values.len(), "a matrix reaches past the end of its slice");
        matrix
    }

    /// The transpose.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn reach(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// Whether a product replaces its output or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// The output is overwritten.
    Replace,
    /// The product is added to the output.
    Add,
}

/// The threads that compute a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread, inside a loop that is parallel already.
    One,
    /// All threads of the pool.
    All,
}

/// Multiplications below which a product runs on one thread: a third of a millisecond.
const WORTH_SPLITTING: usize = 1 << 24;

/// Least rows or columns of the output for one task.
const PART: usize = 128;

/// An output whose rows start `stride` elements apart; tasks write disjoint parts of it.
#[derive(Clone, Copy)]
struct Target {
    pointer: *mut f32,
    stride: usize,
}

#[expect(unsafe_code, reason = "tasks write disjoint parts of one output")]
// SAFETY: `blocks` gives every task rows and columns that no other task has.
unsafe impl Sync for Target {}

/// `output = scale * a b`, or `+=`; `output` is contiguous, (a.rows, b.columns).
pub(crate) fn product(
    output: &mut [f32],
    into: Into,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    assert!(output.len() >= a.rows * b.columns, "a product larger than its output");
    let target = Target { pointer: output.as_mut_ptr(), stride: b.columns };
    blocks(target, into, scale, a, b, threads);
}

/// `a b` in a new vector.
pub(crate) fn new_product(a: Matrix<'_>, b: Matrix<'_>, threads: Threads) -> Vec<f32> {
    let count = a.rows * b.columns;
    let mut output = Vec::with_capacity(count);
    if a.columns == 0 {
        output.resize(count, 0.0);
        return output;
    }
    let target = Target { pointer: output.as_mut_ptr(), stride: b.columns };
    blocks(target, Into::Replace, 1.0, a, b, threads);
    #[expect(unsafe_code, reason = "filling memory with zeros first takes a fifth of a step")]
    // SAFETY: the capacity is `count`, and a product that replaces writes every element.
    unsafe {
        output.set_len(count);
    }
    output
}

/// One head of (B, tokens, heads, width), to be written: no other part overlaps it.
pub(crate) struct HeadPart<'a> {
    target: Target,
    tokens: usize,
    width: usize,
    whole: PhantomData<&'a mut [f32]>,
}

#[expect(unsafe_code, reason = "the parts of one output go to different threads")]
// SAFETY: `head_parts` gives every part elements that no other part has, borrowed as long as it
// lives.
unsafe impl Send for HeadPart<'_> {}

/// Splits (B, tokens, heads, width) into its heads, ordered by batch, then head.
pub(crate) fn head_parts(
    values: &mut [f32],
    (batch, tokens, heads, width): (usize, usize, usize, usize),
) -> Vec<HeadPart<'_>> {
    assert_eq!(
        values.len(),
        batch * tokens * heads * width,
        "the slice has another size than its shape"
    );
    let (first, stride) = (values.as_mut_ptr(), heads * width);
    let part = |index: usize| {
        let (row, head) = (index / heads * tokens, index % heads);
        let pointer = first.wrapping_add(row * stride + head * width);
        HeadPart { target: Target { pointer, stride }, tokens, width, whole: PhantomData }
    };
    (0..batch * heads).map(part).collect()
}

impl HeadPart<'_> {
    /// Writes `scale * a b` to the rows from `first` on, or adds it, on the calling thread.
    pub(crate) fn product(
        &mut self,
        first: usize,
        into: Into,
        scale: f32,
        a: Matrix<'_>,
        b: Matrix<'_>,
    ) {
        assert!(first + a.rows <= self.tokens && b.columns == self.width, "past the head");
        let pointer = self.target.pointer.wrapping_add(first * self.target.stride);
        blocks(Target { pointer, ..self.target }, into, scale, a, b, Threads::One);
    }
}

/// Splits one side of the output among the threads, as evenly as 16 rows or columns allow.
///
/// Each task packs its operands, so there are no more tasks than threads. gemm blocks the inner
/// dimension by its length alone: every element is summed in the same order however the output is
/// split.
fn blocks(target: Target, into: Into, scale: f32, a: Matrix<'_>, b: Matrix<'_>, threads: Threads) {
    assert_eq!(a.columns, b.rows, "the inner dimensions of a product differ");
    assert!(a.reach() <= a.values.len() && b.reach() <= b.values.len());
    let (rows, columns) = (a.rows, b.columns);
    let by_rows = splits_rows(a, b);
    let side = if by_rows { rows } else { columns };
    let parts = (side / PART).min(loops::threads());
    if threads == Threads::One || rows * columns * a.columns < WORTH_SPLITTING || parts < 2 {
        return part(target, into, scale, a, b, (0..rows, 0..columns));
    }
    let boundary = |index: usize| (side * index / parts).next_multiple_of(16).min(side);
    (0..parts).into_par_iter().for_each(|index| {
        let range = boundary(index)..boundary(index + 1);
        let block = if by_rows { (range, 0..columns) } else { (0..rows, range) };
        part(target, into, scale, a, b, block);
    });
}

/// Whether tasks take rows of the output: then each packs the whole right matrix, else the whole
/// left one. Packing along columns is the slower order, so the matrix that needs it is packed once;
/// otherwise the longer side is split.
fn splits_rows(a: Matrix<'_>, b: Matrix<'_>) -> bool {
    if a.row_stride == 1 && a.column_stride != 1 {
        true
    } else if b.row_stride == 1 && b.column_stride != 1 {
        b.columns < 2 * PART && a.rows > b.columns
    } else {
        a.rows >= b.columns
    }
}

/// One block of the output.
fn part(
    target: Target,
    into: Into,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    (rows, columns): (Range<usize>, Range<usize>),
) {
    #[expect(unsafe_code, reason = "gemm takes pointers and strides")]
    // SAFETY: `blocks` has checked that both inputs lie within their slices, and its callers that
    // the output holds a.rows x b.columns at its stride; the block lies within. Inputs are borrowed
    // while the output is owned by the caller, so they do not overlap.
    unsafe {
        gemm::gemm(
            rows.len(),
            columns.len(),
            a.columns,
            target.pointer.add(rows.start * target.stride + columns.start),
            1,
            target.stride as isize,
            into == Into::Add,
            a.values.as_ptr().add(rows.start * a.row_stride),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr().add(columns.start * b.column_stride),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn every_element_is_summed_in_the_same_order_on_any_number_of_threads() {
        for (rows, inner, columns) in [(600, 577, 70), (70, 700, 600), (300, 200, 290)] {
            let (x, y) = (values(rows * inner), values(inner * columns));
            let lefts = [Matrix::new(&x, rows, inner), Matrix::new(&x, inner, rows).transposed()];
            let rights =
                [Matrix::new(&y, inner, columns), Matrix::new(&y, columns, inner).transposed()];
            for (left, right) in lefts.into_iter().flat_map(|l| rights.map(|r| (l, r))) {
                let with = |threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    pool.unwrap().install(|| new_product(left, right, Threads::All))
                };
                let single = with(1);
                assert!(single == with(2) && single == with(3), "{rows} x {inner} x {columns}");
                assert!(
                    single == loops::single_threaded(|| new_product(left, right, Threads::All))
                );
                let element = |m: Matrix<'_>, row: usize, column: usize| {
                    f64::from(m.values[row * m.row_stride + column * m.column_stride])
                };
                for (row, column) in [(0, 0), (rows - 1, columns - 1), (rows / 2, columns / 3)] {
                    let exact: f64 =
                        (0..inner).map(|i| element(left, row, i) * element(right, i, column)).sum();
                    // Rounding of f32 in sums of `inner` terms of at most 1.
                    let off = (f64::from(single[row * columns + column]) - exact).abs();
                    assert!(
                        off < 1e-6 * inner as f64,
                        "{rows} x {inner} x {columns} is off by {off}"
                    );
                }
            }
        }
    }
}
