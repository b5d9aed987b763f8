//! Numbers as digits, the least significant first, and their sums.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A digit is its own symbol.
pub(super) const DIGITS: usize = 10;

pub(super) fn draw(count: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    (0..count).map(|_| rng.random_range(0..DIGITS as u32)).collect()
}

/// `sum + number * factor * 10^place`, as wide as `sum`; what overflows is lost.
pub(super) fn add_multiple(sum: &[u32], number: &[u32], factor: u32, place: usize) -> Vec<u32> {
    let mut carry = 0;
    let digit = |(at, &digit): (usize, &u32)| {
        let multiplied = at.checked_sub(place).and_then(|at| number.get(at)).unwrap_or(&0);
        let total = digit + multiplied * factor + carry;
        carry = total / DIGITS as u32;
        total % DIGITS as u32
    };
    sum.iter().enumerate().map(digit).collect()
}
