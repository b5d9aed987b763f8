//! What the tests of several operations share.

use candle_core::{Device, Tensor};

/// Rounding of sums of f32 in two orders, of values near 1.
const F32_SUMS: f32 = 1e-5;

/// Reproducible values in -2..2.
pub(super) fn wave(shape: &[usize], phase: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..count).map(|index| 2.0 * (index as f32 * 0.37 + phase).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[track_caller]
pub(super) fn assert_close(actual: &Tensor, expected: &Tensor) {
    assert_eq!(actual.dims(), expected.dims());
    let error = (actual - expected).unwrap().abs().unwrap().max_all().unwrap();
    let error = error.to_scalar::<f32>().unwrap();
    assert!(error < F32_SUMS, "off by {error}");
}
