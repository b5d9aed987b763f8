//! How exactly is a state kept?

use half::{bf16, f16};
use safetensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Numbers of a token that share a scale: a few dimensions are a thousand times larger than the
/// others, and would round those to zero. On SmolLM2-135M the worst layer's relative error is
/// 0.053 with one scale a token, 0.018 with one for 64 numbers, 0.013 with one for 32.
const GROUP: usize = 32;

/// The type of kept states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StatePrecision {
    /// As they were computed: 4 bytes a number.
    F32,
    /// Relative error up to 2^-11, numbers up to 65504: 2 bytes.
    F16,
    /// Relative error up to 2^-8: 2 bytes.
    #[default]
    Bf16,
    /// Each 32 numbers of a token share a scale, their largest over 127; an error is at most half
    /// a scale: 1.125 bytes.
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

    /// Scales that a token of `width` numbers has.
    pub(super) fn scales(self, width: usize) -> usize {
        match self {
            Self::Int8 => width.div_ceil(GROUP),
            Self::F32 | Self::F16 | Self::Bf16 => 0,
        }
    }

    /// Tokens of `width` numbers each to bytes, and the bytes of their scales. It depends on
    /// nothing but each token's own numbers.
    ///
    /// # Errors
    /// A number is past the range of the type.
    pub(super) fn encode(self, state: &[f32], width: usize) -> Result<(Vec<u8>, Vec<u8>)> {
        let largest = state.iter().fold(0.0_f32, |high, value| high.max(value.abs()));
        let fits = match self {
            Self::F32 | Self::Int8 => largest.is_finite(),
            Self::F16 => f16::from_f32(largest).is_finite(),
            Self::Bf16 => bf16::from_f32(largest).is_finite(),
        };
        if !fits || state.iter().any(|value| value.is_nan()) {
            return Err(Error::input(format!(
                "a state of the teacher reaches {largest:e}, which {} cannot keep",
                self.name()
            ))
            .at("teacher.cache.states")
            .hint("keep them as bf16, or compute the teacher at every step with --live"));
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

    /// What [`Self::encode`] wrote, as numbers.
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

    /// Two tokens of 100 numbers; one of them is a thousand times larger than the others.
    fn states() -> Vec<f32> {
        let mut states: Vec<f32> =
            (0..200_u16).map(|i| (f32::from(i * 37 % 101) - 50.0) / 20.0).collect();
        states[7] = 1500.0;
        states
    }

    fn kept(precision: StatePrecision, states: &[f32]) -> Vec<f32> {
        let (values, scales) = precision.encode(states, 100).unwrap();
        assert_eq!(scales.len(), states.len() / 100 * 4 * precision.scales(100));
        let mut again = vec![0.0; states.len()];
        precision.decode(&values, &scales, 100, &mut again);
        again
    }

    #[test]
    fn each_precision_errs_by_no_more_than_it_says() {
        let states = states();
        assert_eq!(kept(StatePrecision::F32, &states), states);
        for (precision, relative) in
            [(StatePrecision::F16, 2_f32.powi(-11)), (StatePrecision::Bf16, 2_f32.powi(-8))]
        {
            for (kept, exact) in kept(precision, &states).iter().zip(&states) {
                assert!((kept - exact).abs() <= relative * exact.abs(), "{precision:?} {exact}");
            }
        }
        // 1.001: the products round too.
        let half_scale = |largest: f32| 1.001 * largest / 254.0;
        for (at, (kept, exact)) in
            kept(StatePrecision::Int8, &states).iter().zip(&states).enumerate()
        {
            let largest = if at < 32 { 1500.0 } else { 2.5 };
            assert!((kept - exact).abs() <= half_scale(largest), "{at}: {kept} for {exact}");
        }
        assert_eq!(kept(StatePrecision::Int8, &[0.0; 100]), [0.0; 100]);
    }

    #[test]
    fn what_a_precision_cannot_hold_is_refused() {
        let refused =
            |precision: StatePrecision, value: f32| precision.encode(&[value], 1).is_err();
        assert!(refused(StatePrecision::F16, 7e4) && !refused(StatePrecision::Bf16, 7e4));
        assert!(refused(StatePrecision::Int8, f32::NAN) && refused(StatePrecision::F32, f32::NAN));
    }
}
