//! CPU kernels on plain slices, and the loops that split them among threads.
//!
//! Nothing here knows of a tape or a model.

mod arithmetic;
mod few_rows;
pub(crate) mod gemm;
pub(crate) mod host;
pub(crate) mod loops;
mod quantized;

pub(crate) use quantized::QuantizedMatrix;
pub use quantized::WeightType;
