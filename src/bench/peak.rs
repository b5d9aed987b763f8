//! How fast are matrices multiplied on this machine, and nothing else done?

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::gemm::{Into, Matrix, Threads, product};
use crate::train::Interrupt;

/// Each shape is multiplied at least this long (seconds) and this often.
const LEAST_S: f64 = 0.4;
const LEAST_ROUNDS: usize = 5;
/// Numbers of one matrix at most: 4 GiB.
const LARGEST: u128 = 1 << 30;

/// One product (rows, inner) x (inner, columns), and the fastest it was ever done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProductSpeed {
    /// Rows of the left matrix.
    pub rows: usize,
    /// Columns of the left one, rows of the right one.
    pub inner: usize,
    /// Columns of the right matrix.
    pub columns: usize,
    /// 2 rows inner columns over the shortest time, in 1e9 a second.
    pub gflop_per_s: f64,
}

/// What the products of this machine reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixPeak {
    /// Threads of the arithmetic.
    pub threads: usize,
    /// The highest of all shapes, in 1e9 operations a second.
    pub gflop_per_s: f64,
    /// Every shape.
    pub shapes: Vec<ProductSpeed>,
}

/// Multiplies each of `shapes`, (rows, inner, columns), again and again. The CPU's product alone.
///
/// # Errors
/// A side is 0, a matrix is too large, or the interrupt is set.
pub fn matrix_peak(shapes: &[[usize; 3]], interrupt: &Interrupt) -> Result<MatrixPeak> {
    let mut found = Vec::with_capacity(shapes.len());
    for &[rows, inner, columns] in shapes {
        if interrupt.is_set() {
            return Err(Error::interrupted("stopped before everything was timed"));
        }
        for [high, wide] in [[rows, inner], [inner, columns], [rows, columns]] {
            let count = high as u128 * wide as u128;
            if count == 0 || count > LARGEST {
                return Err(Error::input(format!(
                    "a matrix of {high} x {wide} cannot be timed, expected 1 to {LARGEST} numbers"
                ))
                .hint("change --width, --ffn, --vocab, --batch or --tokens"));
            }
        }
        found.push(speed(rows, inner, columns));
    }
    let gflop_per_s = found.iter().map(|speed| speed.gflop_per_s).fold(0.0, f64::max);
    Ok(MatrixPeak { threads: rayon::current_num_threads(), gflop_per_s, shapes: found })
}

fn speed(rows: usize, inner: usize, columns: usize) -> ProductSpeed {
    // Small numbers that are no powers of two: some processors are slow at denormal ones.
    let numbers = |count: usize| -> Vec<f32> { (0..count).map(|i| (i % 7) as f32 - 3.1).collect() };
    let (left, right) = (numbers(rows * inner), numbers(inner * columns));
    let mut output = vec![0.0; rows * columns];
    let (started, mut rounds, mut shortest_s) = (Instant::now(), 0, f64::INFINITY);
    while rounds < LEAST_ROUNDS || started.elapsed().as_secs_f64() < LEAST_S {
        let start = Instant::now();
        let left = Matrix::new(&left, rows, inner);
        // A weight is (columns, inner): its transpose is multiplied, as by a linear layer.
        let right = Matrix::new(&right, columns, inner).transposed();
        product(&mut output, Into::Replace, 1.0, left, right, Threads::All);
        std::hint::black_box(&output);
        shortest_s = shortest_s.min(start.elapsed().as_secs_f64().max(1e-9));
        rounds += 1;
    }
    let gflop = 2.0 * rows as f64 * inner as f64 * columns as f64 / 1e9;
    ProductSpeed { rows, inner, columns, gflop_per_s: gflop / shortest_s }
}
