//! Linear algebra of initializations: eigenvalues, inverses and truncated decompositions.
//!
//! Matrices are f32 slices in row-major order; decompositions run in f64.

use faer::{Mat, Side};

use crate::error::{Error, Result};
use crate::kernels::gemm::{Into, Matrix, Threads, product};

/// Eigenvalues of a symmetric matrix, largest first, and its eigenvectors as rows.
pub(crate) struct Eigen {
    pub(crate) values: Vec<f32>,
    /// (size, size), one eigenvector a row.
    pub(crate) vectors: Vec<f32>,
}

/// The eigenvalues and eigenvectors of `matrix`, (size, size).
pub(crate) fn eigen(matrix: &[f32], size: usize) -> Result<Eigen> {
    let wide = Mat::from_fn(size, size, |i, j| {
        f64::midpoint(f64::from(matrix[i * size + j]), f64::from(matrix[j * size + i]))
    });
    let decomposition = wide
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| Error::internal("an eigenvalue decomposition did not converge"))?;
    let (values, vectors) = (decomposition.S(), decomposition.U());
    let descending = || (0..size).rev();
    Ok(Eigen {
        values: descending().map(|k| values[k] as f32).collect(),
        vectors: descending()
            .flat_map(|k| (0..size).map(move |i| vectors[(i, k)] as f32))
            .collect(),
    })
}

/// `right` (rows, size) times the inverse of the positive definite `matrix` (size, size).
pub(crate) fn times_inverse(right: &[f32], matrix: &[f32], size: usize) -> Result<Vec<f32>> {
    let wide = Mat::from_fn(size, size, |i, j| f64::from(matrix[i * size + j]));
    let factor = wide
        .llt(Side::Lower)
        .map_err(|_| Error::internal("a Gram matrix is not positive definite"))?;
    let rows = right.len() / size;
    let mut columns = Mat::from_fn(size, rows, |i, j| f64::from(right[j * size + i]));
    faer::linalg::solvers::Solve::solve_in_place(&factor, &mut columns);
    Ok((0..rows)
        .flat_map(|j| (0..size).map(move |i| (i, j)))
        .map(|index| columns[index] as f32)
        .collect())
}

/// The product of a (rows, inner) and b (inner, columns) on this thread.
pub(crate) fn times(a: Matrix<'_>, b: Matrix<'_>, rows: usize, columns: usize) -> Vec<f32> {
    let mut output = vec![0.0; rows * columns];
    product(&mut output, Into::Replace, 1.0, a, b, Threads::One);
    output
}

/// The factors B (out, rank) and A (rank, inner) of a low-rank matrix B A.
pub(crate) struct LowRank {
    pub(crate) b: Vec<f32>,
    pub(crate) a: Vec<f32>,
}

/// The best approximation of `delta` (out, inner) of rank `rank`: B A that minimises
/// |(delta - B A) C^(1/2)|, with C the `metric` (inner, inner) or the identity. Columns of B and
/// rows of A have equal length. Eckart and Young 1936.
pub(crate) fn truncated(
    delta: &[f32],
    (out, inner): (usize, usize),
    rank: usize,
    metric: Option<&[f32]>,
) -> Result<LowRank> {
    let matrix = Matrix::new(delta, out, inner);
    let (b, a) = if out <= inner {
        // Left singular vectors of delta C^(1/2) are eigenvectors of delta C delta^T.
        let gram = match metric {
            Some(metric) => {
                let product = times(matrix, Matrix::new(metric, inner, inner), out, inner);
                times(Matrix::new(&product, out, inner), matrix.transposed(), out, out)
            }
            None => times(matrix, matrix.transposed(), out, out),
        };
        let vectors = padded(&eigen(&gram, out)?.vectors, out, rank);
        let a = times(Matrix::new(&vectors, rank, out), matrix, rank, inner);
        (transpose(&vectors, rank, out), a)
    } else {
        let (root, inverse_root) = match metric {
            Some(metric) => roots(metric, inner)?,
            None => (identity(inner), identity(inner)),
        };
        let scaled = times(matrix, Matrix::new(&root, inner, inner), out, inner);
        let scaled = Matrix::new(&scaled, out, inner);
        let gram = times(scaled.transposed(), scaled, inner, inner);
        let vectors = padded(&eigen(&gram, inner)?.vectors, inner, rank);
        let rows = Matrix::new(&vectors, rank, inner);
        let b = times(scaled, rows.transposed(), out, rank);
        (b, times(rows, Matrix::new(&inverse_root, inner, inner), rank, inner))
    };
    Ok(balanced(b, a, rank, inner))
}

/// The first `rank` rows, with zero rows where there are fewer.
fn padded(rows: &[f32], width: usize, rank: usize) -> Vec<f32> {
    let mut padded = rows[..rows.len().min(rank * width)].to_vec();
    padded.resize(rank * width, 0.0);
    padded
}

/// Scales each column of B and the row of A it is multiplied with to equal length.
fn balanced(mut b: Vec<f32>, mut a: Vec<f32>, rank: usize, inner: usize) -> LowRank {
    let out = b.len() / rank;
    for k in 0..rank {
        let row = &mut a[k * inner..(k + 1) * inner];
        let a_length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        let b_length = (0..out).map(|i| b[i * rank + k].powi(2)).sum::<f32>().sqrt();
        if a_length > 0.0 && b_length > 0.0 {
            let factor = (b_length / a_length).sqrt();
            row.iter_mut().for_each(|x| *x *= factor);
            (0..out).for_each(|i| b[i * rank + k] /= factor);
        }
    }
    LowRank { b, a }
}

/// The square root of a positive semi-definite matrix and the inverse of that root.
fn roots(matrix: &[f32], size: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let eigen = eigen(matrix, size)?;
    let floor = eigen.values[0].max(1e-20) * 1e-6;
    let power = |exponent: f32| {
        let mut scaled = eigen.vectors.clone();
        for (row, value) in scaled.chunks_exact_mut(size).zip(&eigen.values) {
            let factor = value.max(floor).powf(exponent);
            row.iter_mut().for_each(|x| *x *= factor);
        }
        let vectors = Matrix::new(&eigen.vectors, size, size);
        times(vectors.transposed(), Matrix::new(&scaled, size, size), size, size)
    };
    Ok((power(0.5), power(-0.5)))
}

fn identity(size: usize) -> Vec<f32> {
    (0..size * size).map(|i| if i / size == i % size { 1.0 } else { 0.0 }).collect()
}

fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| values[i * columns + j])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        // The frequency grows with the index, so that the rows are linearly independent.
        (0..count).map(|i| ((i * i) as f32 * step).sin()).collect()
    }

    fn distance(delta: &[f32], factors: &LowRank, shape: (usize, usize), rank: usize) -> f32 {
        let b = Matrix::new(&factors.b, shape.0, rank);
        let product = times(b, Matrix::new(&factors.a, rank, shape.1), shape.0, shape.1);
        product.iter().zip(delta).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt()
    }

    #[test]
    fn a_full_rank_approximation_is_exact_in_any_metric() {
        for shape in [(5, 9), (9, 5), (6, 6)] {
            let delta = wave(shape.0 * shape.1, 1.3);
            let x = wave(40 * shape.1, 0.7);
            let x = Matrix::new(&x, 40, shape.1);
            let metric = times(x.transposed(), x, shape.1, shape.1);
            let rank = shape.0.min(shape.1);
            for metric in [None, Some(metric.as_slice())] {
                let factors = truncated(&delta, shape, rank, metric).unwrap();
                assert!(distance(&delta, &factors, shape, rank) < 2e-3, "{shape:?}");
            }
        }
    }

    #[test]
    fn a_truncated_approximation_loses_the_smallest_singular_values() {
        // Two orthogonal directions of sizes 3 and 1: rank one loses exactly 1.
        let delta = [3.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let factors = truncated(&delta, (2, 3), 1, None).unwrap();
        assert!((distance(&delta, &factors, (2, 3), 1) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_solution_times_its_matrix_is_the_right_side() {
        let x = wave(30 * 4, 0.9);
        let x = Matrix::new(&x, 30, 4);
        let matrix = times(x.transposed(), x, 4, 4);
        let right = wave(3 * 4, 0.4);
        let solved = times_inverse(&right, &matrix, 4).unwrap();
        let back = times(Matrix::new(&solved, 3, 4), Matrix::new(&matrix, 4, 4), 3, 4);
        for (x, y) in back.iter().zip(&right) {
            assert!((x - y).abs() < 1e-3);
        }
    }
}
