//! Precision of cached hidden states.

use half::{bf16, f16};
use safetensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Dimensions of a token that share a scale. A few dimensions are a thousand times larger than the
/// others, which one scale for a token would round to zero. On SmolLM2-135M the largest relative
/// error of a layer is 0.053 with one scale for a token, 0.018 with one for 64 dimensions, 0.013
/// with one for 32.
const GROUP: usize = 32;

/// The type of cached hidden states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StatePrecision {
    /// Exact; 4 bytes a value.
    F32,
    /// Relative error up to 2^-11, values up to 65504; 2 bytes a value.
    F16,
    /// Relative error up to 2^-8; 2 bytes a value.
    #[default]
    Bf16,
    /// Each 32 dimensions of a token share a scale, the largest magnitude over 127; an error is at
    /// most half a scale; 1.125 bytes a value.
    Int8,
}

impl StatePrecision {
    /// Its name in recipes.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::Int8 => Dtype::I8,
        }
    }

    /// Number of scales of a token of `width` dimensions.
    pub(super) fn scales(self, width: usize) -> usize {
        match self {
            Self::Int8 => width.div_ceil(GROUP),
            Self::F32 | Self::F16 | Self::Bf16 => 0,
        }
    }

    /// Encodes tokens of `width` dimensions each: the bytes of their values and of their scales.
    /// Tokens are encoded independently of each other.
    ///
    /// # Errors
    /// A value is out of the range of the type.
    pub(super) fn encode(self, state: &[f32], width: usize) -> Result<(Vec<u8>, Vec<u8>)> {
        let largest = state.iter().fold(0.0_f32, |high, value| high.max(value.abs()));
        let fits = match self {
            Self::F32 | Self::Int8 => largest.is_finite(),
            Self::F16 => f16::from_f32(largest).is_finite(),
            Self::Bf16 => bf16::from_f32(largest).is_finite(),
        };
        if !fits || state.iter().any(|value| value.is_nan()) {
            return Err(Error::input(format!(
                "a state of the teacher has the value {largest:e}, which {} cannot represent",
                self.name()
            ))
            .at("teacher.cache.states")
            .hint("cache states as bf16, or compute the teacher at every step with --live"));
        }
        let mut scales = Vec::new();
        let values = match self {
            Self::F32 => state.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => {
                state.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
            }
            Self::Bf16 => {
                state.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect()
            }
            Self::Int8 => {
                let mut bytes = Vec::with_capacity(state.len());
                for group in state.chunks_exact(width).flat_map(|token| token.chunks(GROUP)) {
                    let largest = group.iter().fold(0.0_f32, |high, value| high.max(value.abs()));
                    let scale = largest / 127.0;
                    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                    scales.extend(scale.to_le_bytes());
                    let level = |value: &f32| (value * inverse).round().clamp(-127.0, 127.0) as i8;
                    bytes.extend(group.iter().map(|value| level(value).to_le_bytes()[0]));
                }
                bytes
            }
        };
        Ok((values, scales))
    }

    /// Decodes the result of [`Self::encode`] into `into`.
    pub(super) fn decode(self, values: &[u8], scales: &[u8], width: usize, into: &mut [f32]) {
        let pairs = values.as_chunks::<2>().0;
        match self {
            Self::F32 => {
                for (into, four) in into.iter_mut().zip(values.as_chunks::<4>().0) {
                    *into = f32::from_le_bytes(*four);
                }
            }
            Self::F16 => {
                for (into, two) in into.iter_mut().zip(pairs) {
                    *into = f16::from_le_bytes(*two).to_f32();
                }
            }
            Self::Bf16 => {
                for (into, two) in into.iter_mut().zip(pairs) {
                    *into = f32::from_bits(u32::from(u16::from_le_bytes(*two)) << 16);
                }
            }
            Self::Int8 => {
                let groups = |row: usize| row * width..(row + 1) * width;
                let mut scales = scales.as_chunks::<4>().0.iter();
                for token in 0..into.len() / width {
                    let numbers = into[groups(token)].chunks_mut(GROUP);
                    for (numbers, levels) in numbers.zip(values[groups(token)].chunks(GROUP)) {
                        let scale = scales.next().map_or(0.0, |four| f32::from_le_bytes(*four));
                        for (number, level) in numbers.iter_mut().zip(levels) {
                            *number = f32::from(i8::from_le_bytes([*level])) * scale;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tokens of 100 dimensions; one value is a thousand times larger than the others.
    fn states() -> Vec<f32> {
        let mut states: Vec<f32> =
            (0..200_u16).map(|i| (f32::from(i * 37 % 101) - 50.0) / 20.0).collect();
        states[7] = 1500.0;
        states
    }

    fn round_trip(precision: StatePrecision, states: &[f32]) -> Vec<f32> {
        let (values, scales) = precision.encode(states, 100).unwrap();
        assert_eq!(scales.len(), states.len() / 100 * 4 * precision.scales(100));
        let mut decoded = vec![0.0; states.len()];
        precision.decode(&values, &scales, 100, &mut decoded);
        decoded
    }

    #[test]
    fn the_error_of_each_precision_is_bounded_as_documented() {
        let states = states();
        assert_eq!(round_trip(StatePrecision::F32, &states), states);
        for (precision, relative) in
            [(StatePrecision::F16, 2_f32.powi(-11)), (StatePrecision::Bf16, 2_f32.powi(-8))]
        {
            for (value, exact) in round_trip(precision, &states).iter().zip(&states) {
                assert!((value - exact).abs() <= relative * exact.abs(), "{precision:?} {exact}");
            }
        }
        // 1.001, because the products round as well.
        let half_scale = |largest: f32| 1.001 * largest / 254.0;
        let decoded = round_trip(StatePrecision::Int8, &states);
        for (index, (value, exact)) in decoded.iter().zip(&states).enumerate() {
            let largest = if index < 32 { 1500.0 } else { 2.5 };
            assert!((value - exact).abs() <= half_scale(largest), "{index}: {value} for {exact}");
        }
        assert_eq!(round_trip(StatePrecision::Int8, &[0.0; 100]), [0.0; 100]);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let refused =
            |precision: StatePrecision, value: f32| precision.encode(&[value], 1).is_err();
        assert!(refused(StatePrecision::F16, 7e4) && !refused(StatePrecision::Bf16, 7e4));
        assert!(refused(StatePrecision::Int8, f32::NAN) && refused(StatePrecision::F32, f32::NAN));
    }
}
