//! Kernels on plain slices of numbers, and the loops that share them out among threads.
//!
//! Nothing here knows of a tape, a model or a device: numbers on the CPU in, numbers out.

mod arithmetic;
mod few_rows;
pub(crate) mod gemm;
pub(crate) mod host;
pub(crate) mod loops;
pub mod quantized;
