//! A pseudo-random permutation of `0..count` in constant memory (a Feistel network).

/// Rounds of the Feistel network; four make it a pseudo-random permutation (Luby and Rackoff
/// 1988), the others are for the few bits of small counts.
const ROUNDS: u64 = 8;

/// A permutation of `0..count`, fixed by its seed and its stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permutation {
    count: u64,
    half_bits: u32,
    key: u64,
}

impl Permutation {
    /// Different `stream`s of one `seed` are unrelated.
    pub(super) fn new(count: u64, seed: u64, stream: u64) -> Self {
        // Two halves of equal width that together count to `count` or further.
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        Self { count, half_bits, key: mix(mix(seed) ^ stream) }
    }

    /// What stands at `place`, which is below the count.
    pub(super) fn at(&self, place: u64) -> u64 {
        // Walking along the cycle until it is back in range keeps it a permutation; the range
        // of the network is at most four times the count (sixteen for the tiniest).
        let mut value = self.network(place);
        while value >= self.count {
            value = self.network(value);
        }
        value
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..ROUNDS {
            let scrambled = mix(right ^ mix(self.key.wrapping_add(round))) & mask;
            (left, right) = (right, left ^ scrambled);
        }
        (left << self.half_bits) | right
    }
}

// splitmix64; Steele, Lea and Flood 2014
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Permutation;

    proptest! {
        #[test]
        fn every_place_is_taken_once(count in 1_u64..3000, seed: u64, stream: u64) {
            let permutation = Permutation::new(count, seed, stream);
            let mut seen: Vec<u64> = (0..count).map(|place| permutation.at(place)).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..count));
        }
    }

    #[test]
    fn small_permutations_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for stream in 0..6000 {
            let permutation = Permutation::new(3, 7, stream);
            *counts.entry([0, 1, 2].map(|place| permutation.at(place))).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        // 1000 expected, standard deviation 29: six of them.
        assert!(counts.values().all(|count| count.abs_diff(1000) < 174), "{counts:?}");
    }
}
