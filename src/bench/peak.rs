//! Speed of matrix products alone on this machine.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::kernels::gemm::{Into, Matrix, Threads, product};

/// Each shape is multiplied for at least this many seconds and rounds.
const LEAST_S: f64 = 0.4;
const LEAST_ROUNDS: usize = 5;
/// Most elements of one matrix: 4 GiB.
const LARGEST: u128 = 1 << 30;

/// The speed of one product (rows, inner) x (inner, columns), the best of all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProductSpeed {
    /// Rows of the left matrix.
    pub rows: usize,
    /// Columns of the left matrix, rows of the right one.
    pub inner: usize,
    /// Columns of the right matrix.
    pub columns: usize,
    /// 2 x rows x inner x columns over the shortest time, in 1e9 operations a second.
    pub gflop_per_s: f64,
}

/// The measured speeds of matrix products.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixPeak {
    /// Threads of the arithmetic.
    pub threads: usize,
    /// The highest speed of all shapes, in 1e9 operations a second.
    pub gflop_per_s: f64,
    /// The speed of every shape.
    pub shapes: Vec<ProductSpeed>,
}

/// Measures the speed of the CPU's matrix product at each of `shapes`, (rows, inner, columns).
///
/// # Errors
/// A side is 0, a matrix is too large, or the context is cancelled.
pub fn matrix_peak(shapes: &[[usize; 3]], context: &Context) -> Result<MatrixPeak> {
    let mut speeds = Vec::with_capacity(shapes.len());
    for &[rows, inner, columns] in shapes {
        context.check_cancelled("before everything was timed")?;
        for [high, wide] in [[rows, inner], [inner, columns], [rows, columns]] {
            let count = high as u128 * wide as u128;
            if count == 0 || count > LARGEST {
                return Err(Error::input(format!(
                    "a matrix of {high} x {wide} cannot be timed, expected 1 to {LARGEST} elements"
                ))
                .hint("change --width, --ffn, --vocab, --batch or --tokens"));
            }
        }
        speeds.push(speed(rows, inner, columns));
    }
    let gflop_per_s = speeds.iter().map(|speed| speed.gflop_per_s).fold(0.0, f64::max);
    Ok(MatrixPeak { threads: rayon::current_num_threads(), gflop_per_s, shapes: speeds })
}

fn speed(rows: usize, inner: usize, columns: usize) -> ProductSpeed {
    // Values of moderate size: some processors are slow at denormal ones.
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| (i % 7) as f32 - 3.1).collect() };
    let (left, right) = (values(rows * inner), values(inner * columns));
    let mut output = vec![0.0; rows * columns];
    let (started, mut rounds, mut shortest_s) = (Instant::now(), 0, f64::INFINITY);
    while rounds < LEAST_ROUNDS || started.elapsed().as_secs_f64() < LEAST_S {
        let start = Instant::now();
        let left = Matrix::new(&left, rows, inner);
        // A weight is (columns, inner); a linear layer multiplies by its transpose.
        let right = Matrix::new(&right, columns, inner).transposed();
        product(&mut output, Into::Replace, 1.0, left, right, Threads::All);
        std::hint::black_box(&output);
        shortest_s = shortest_s.min(start.elapsed().as_secs_f64().max(1e-9));
        rounds += 1;
    }
    let gflop = 2.0 * rows as f64 * inner as f64 * columns as f64 / 1e9;
    ProductSpeed { rows, inner, columns, gflop_per_s: gflop / shortest_s }
}
