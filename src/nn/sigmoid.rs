//! The logistic function, for operations composed of candle's.

use candle_core::Tensor;

use crate::error::Result;

/// 1 / (1 + exp(-x)), element by element.
// (tanh(x / 2) + 1) / 2: its exponential does not overflow.
pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((((x * 0.5)?.tanh()? + 1.0)? * 0.5)?)
}
