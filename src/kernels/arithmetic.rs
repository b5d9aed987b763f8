//! Arithmetic that the kernels share: exp, erfc, sums, maxima.
//!
//! It has no branches, so it vectorises; sums run in a fixed order, so results are reproducible to
//! the bit.

/// `e^x`, within 2 units in the last place for finite results, in a form that compilers vectorise.
// Cephes expf: x = n ln 2 + r, e^r by a polynomial, 2^n by the exponent bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    (p * r * r + r + 1.0) * f32::from_bits(power)
}

/// Independent running sums of a reduction.
const LANES: usize = 16;

/// The sums of `term` over the elements of `inputs`, in sixteen running sums each, so that the loop
/// vectorises; the order is fixed. Inputs of different lengths are cut to the shortest.
#[inline(always)]
pub(crate) fn sums_of<const IN: usize, const OUT: usize>(
    inputs: [&[f32]; IN],
    term: impl Fn([f32; IN]) -> [f32; OUT],
) -> [f32; OUT] {
    let width = inputs.iter().map(|values| values.len()).min().unwrap_or(0);
    let inputs = inputs.map(|values| &values[..width]);
    let mut sums = [[0.0_f32; LANES]; OUT];
    let whole = width / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let values = inputs.map(|values| &values[start..][..LANES]);
        for lane in 0..LANES {
            let terms = term(values.map(|values| values[lane]));
            for (sums, term) in sums.iter_mut().zip(terms) {
                sums[lane] += term;
            }
        }
    }
    let mut tail = [0.0_f32; OUT];
    for index in whole..width {
        let terms = term(inputs.map(|values| values[index]));
        for (tail, term) in tail.iter_mut().zip(terms) {
            *tail += term;
        }
    }
    std::array::from_fn(|out| sums[out].iter().sum::<f32>() + tail[out])
}

/// The dot product.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let [sum] = sums_of(
        [a, b],
        #[inline(always)]
        |[x, y]| [x * y],
    );
    sum
}

/// The sum of `term` over all values.
#[inline(always)]
pub(crate) fn sum_of(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let [sum] = sums_of(
        [values],
        #[inline(always)]
        |[x]| [term(x)],
    );
    sum
}

/// Replaces every value by the first result of `map(value, other)` and returns the sum of the second
/// results, in the order of [`sums_of`].
#[inline(always)]
pub(crate) fn map_and_sum(
    values: &mut [f32],
    others: &[f32],
    map: impl Fn(f32, f32) -> (f32, f32),
) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    let (others, rest_others) = others[..chunks.len() * LANES + rest.len()].as_chunks::<LANES>();
    for (values, others) in chunks.iter_mut().zip(others) {
        for lane in 0..LANES {
            let (value, term) = map(values[lane], others[lane]);
            values[lane] = value;
            sums[lane] += term;
        }
    }
    let mut tail = 0.0;
    for (value, other) in rest.iter_mut().zip(rest_others) {
        let (new, term) = map(*value, *other);
        *value = new;
        tail += term;
    }
    sums.iter().sum::<f32>() + tail
}

/// The largest value, or minus infinity of an empty slice, by sixteen running maxima.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let tail = chunks.remainder().iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    for chunk in chunks {
        for lane in 0..LANES {
            maxima[lane] = if chunk[lane] > maxima[lane] { chunk[lane] } else { maxima[lane] };
        }
    }
    maxima.iter().fold(tail, |a, &b| a.max(b))
}

/// Twice the upper tail of the normal distribution, erfc(z), and e^(-z^2), for z of 0 or more.
/// In f32 the absolute error of erfc is below 4e-7 for z < 1; the relative error beyond is below
/// 2e-5, that of e^(-z^2), whose exponent carries the rounding of z^2.
// erfc(z) = e^(-z^2) t P(t), t = 1 / (1 + 0.35 z), as in Abramowitz & Stegun 7.1.26; P of degree 9
// interpolates erfc at the Chebyshev nodes of 0 <= z <= 9.4 with a relative error of 1e-8.
#[inline(always)]
pub(crate) fn erfc(z: f32) -> (f32, f32) {
    const P: [f32; 10] = [
        0.197_496_38,
        0.196_903_73,
        0.189_781_7,
        0.142_686_32,
        0.169_985_9,
        0.043_403_54,
        0.023_742_398,
        0.143_505_84,
        -0.143_011_06,
        0.035_505_253,
    ];
    let bell = exp(-z * z);
    let t = 1.0 / (1.0 + 0.35 * z);
    let mut p = P[9];
    for coefficient in P[..9].iter().rev() {
        p = p * t + coefficient;
    }
    (bell * t * p, bell)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in -8600..8700 {
            let x = step as f32 * 0.01;
            let error = (exp(x) - x.exp()).abs() / x.exp();
            assert!(error < 2.5e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn sums_cover_whole_chunks_and_the_remainder() {
        for count in [0, 1, 15, 16, 17, 100] {
            // Integers, whose sums are exact.
            let integers: Vec<u32> = (0..count).collect();
            let values: Vec<f32> = integers.iter().map(|&value| value as f32).collect();
            let expected: [u32; 2] =
                [integers.iter().sum(), integers.iter().map(|value| value * value).sum()];
            let sums = sums_of([&values, &values], |[x, y]| [x, x * y]);
            assert_eq!(sums.map(|sum| sum as u32), expected);
            let mut mapped = values.clone();
            let sum = map_and_sum(&mut mapped, &values, |x, y| (x + y, x * y));
            assert_eq!(sum as u32, expected[1]);
            assert!(mapped.iter().zip(&integers).all(|(new, old)| *new as u32 == 2 * old));
        }
    }

    #[test]
    fn erfc_agrees_with_a_reference_of_double_precision() {
        let steps: Vec<f64> = (0..9000_u16).map(|step| f64::from(step) * 0.001).collect();
        let errors = Tensor::new(steps.as_slice(), &Device::Cpu).unwrap().erf().unwrap();
        for (z, erf) in steps.into_iter().zip(errors.to_vec1::<f64>().unwrap()) {
            let error = (f64::from(erfc(z as f32).0) - (1.0 - erf)).abs();
            assert!(error < 4e-7, "erfc({z}) is off by {error}");
        }
        // Digits of DLMF 7.
        for (z, tail) in [
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 4.677_734_981_047_266e-3),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_034_8e-12),
            (8.0, 1.122_429_717_298_292_7e-29),
        ] {
            let error = (f64::from(erfc(z).0) / tail - 1.0).abs();
            assert!(error < 2e-5, "erfc({z}) is off by a fraction of {error}");
        }
        assert!(erfc(f32::NAN).0.is_nan());
    }
}
