//! Log-probabilities of the normal distribution.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// ln of the density at `x`.
pub(super) fn ln_density(x: f64) -> f64 {
    -0.5 * (x * x + (2.0 * PI).ln())
}

/// ln of the probability to lie below `x`, precise in both tails.
pub(super) fn ln_below(x: f64) -> f64 {
    if x > 0.0 {
        (-0.5 * libm::erfc(x / SQRT_2)).ln_1p()
    } else if x > -30.0 {
        libm::erfc(-x / SQRT_2).ln() - LN_2
    } else {
        // Abramowitz and Stegun 26.2.12; the next term is below 2e-10 here.
        let s = (x * x).recip();
        ln_density(x) - (-x).ln() + (-s * (1.0 - s * (3.0 - s * (15.0 - s * 105.0)))).ln_1p()
    }
}

/// ln of the probability to lie between two bounds, either of them possibly infinite.
pub(super) fn ln_between(lower: f64, upper: f64) -> f64 {
    // Of two upper tails the mirrored lower ones are precise.
    let (lower, upper) = if lower > 0.0 { (-upper, -lower) } else { (lower, upper) };
    if upper - lower < 1e-4 {
        // The difference would cancel; the density is flat at this width.
        ln_density(f64::midpoint(lower, upper)) + (upper - lower).ln()
    } else if upper <= 0.0 {
        ln_below(upper) + (-(ln_below(lower) - ln_below(upper)).exp()).ln_1p()
    } else {
        (-ln_below(lower).exp() - ln_below(-upper).exp()).ln_1p()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `mpmath` at 50 digits: `log(ncdf(b) - ncdf(a))`.
    #[test]
    fn probabilities_agree_with_fifty_digits() {
        let (below, above) = (f64::NEG_INFINITY, f64::INFINITY);
        let cases = [
            (-1.0, 2.0, -0.200_166_294_324_462_6),
            (below, -3.0, -6.607_726_221_510_349),
            (below, -29.5, -439.429_474_609_150_23),
            (below, -40.0, -804.608_442_013_753_8),
            (5.0, 7.0, -15.065_002_858_696_149),
            (25.0, 26.0, -316.639_408_008_028_36),
            (-45.0, -44.0, -972.703_644_039_073_7),
            (38.0, above, -726.557_216_018_820_1),
            (0.5, 0.500_01, -12.556_866_498_195_077),
            (-12.0, 9.0, -1.128_588_405_953_858_4e-19),
            (-0.25, 30.0, -0.512_984_075_409_430_5),
        ];
        for (lower, upper, expected) in cases {
            let found = ln_between(lower, upper);
            // The asymptotic series leaves out a term of 2e-10.
            assert!(
                (found - expected).abs() <= 1e-9 * expected.abs(),
                "({lower}, {upper}): {found} is not {expected}"
            );
        }
    }
}
