//! How are two matrices multiplied on the CPU?

use gemm::Parallelism;

/// A matrix as a slice with strides, so that transposes and heads need no copy.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row by row, without gaps: (rows, columns).
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Rows that start `row_stride` numbers apart.
    pub(crate) fn strided(
        values: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        let matrix = Self { values, rows, columns, row_stride, column_stride: 1 };
        assert!(matrix.reach() <= values.len(), "a matrix reaches past its numbers");
        matrix
    }

    /// Rows as columns.
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

/// What happens to the numbers that stand in the output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// They are replaced.
    Replace,
    /// The product is added to them.
    Add,
}

/// Who computes the product.
#[derive(Clone, Copy)]
pub(crate) enum Threads {
    /// The thread that asks, inside a loop that is parallel already.
    One,
    /// All of them.
    All,
}

/// `output = scale * a b`, or `+=`; output is (a.rows, b.columns), row by row, without gaps.
pub(crate) fn product(
    output: &mut [f32],
    into: Into,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    assert_eq!(a.columns, b.rows, "a product of matrices that do not fit");
    assert!(output.len() >= a.rows * b.columns, "a product larger than its output");
    assert!(a.reach() <= a.values.len() && b.reach() <= b.values.len());
    let parallelism = match threads {
        Threads::All if rayon::current_num_threads() > 1 => {
            Parallelism::Rayon(rayon::current_num_threads())
        }
        _ => Parallelism::None,
    };
    #[expect(unsafe_code, reason = "gemm takes pointers and strides")]
    // SAFETY: the three assertions above bound every element that gemm reads or writes; `output`
    // is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            output.as_mut_ptr(),
            1,
            b.columns as isize,
            into == Into::Add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
