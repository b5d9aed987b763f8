//! The trait of a task: a state, a step that is repeated, and their sizes.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// No chain is longer (steps).
pub(super) const LONGEST_CHAIN: usize = 4096;

/// A task is a state, and a step that is repeated. Symbols count from 0; whoever calls has checked
/// that `length` is between 1 and the longest chain and that an input has its number of symbols.
pub(super) trait Rules: Debug + Send + Sync {
    /// How many symbols the task has.
    fn symbols(&self) -> usize;
    /// A readable symbol, without blanks.
    fn name(&self, symbol: u32) -> String;
    /// The longest chain (steps).
    fn longest_chain(&self) -> usize;
    /// The symbols of a state.
    fn width(&self) -> usize;
    /// The symbols of an input whose chain has `length` steps.
    fn input_symbols(&self, length: usize) -> usize;
    /// The symbols of its answer.
    fn answer_symbols(&self, _length: usize) -> usize {
        self.width()
    }
    /// How many inputs there are; `None` where that is past 128 bits.
    fn distinct_inputs(&self, length: usize) -> Option<u128>;
    /// How often one answer drawn uniformly from all that the task allows is right.
    fn chance(&self, length: usize) -> f64;
    /// Draws an input, uniformly unless the task documents otherwise.
    fn draw(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32>;
    /// The state before the first step.
    fn start(&self, input: &[u32]) -> Vec<u32>;
    /// The state after step `step`, which counts from 0, that was `state` before.
    fn step(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32>;
    /// What of the input and the state decides step `step`.
    fn context(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32>;
    /// The answer a chain ends in.
    fn answer(&self, steps: &[Vec<u32>]) -> Vec<u32> {
        steps.last().cloned().unwrap_or_default()
    }
}

/// Refuses a setting outside its range.
pub(super) fn within<T: PartialOrd + Display>(
    key: &str,
    found: &T,
    range: &RangeInclusive<T>,
) -> Result<()> {
    if range.contains(found) {
        return Ok(());
    }
    let (least, most) = (range.start(), range.end());
    Err(Error::input(format!("`{key}` is {found}, expected {least} to {most}")))
}

/// `base` to the power of `exponent`, where it fits.
pub(super) fn power(base: usize, exponent: usize) -> Option<u128> {
    (base as u128).checked_pow(u32::try_from(exponent).ok()?)
}

/// The number of ways to arrange `chosen` of `among` things in a row, where it fits.
pub(super) fn arrangements(among: usize, chosen: usize) -> Option<u128> {
    (0..chosen).try_fold(1, |ways: u128, taken| ways.checked_mul(among.checked_sub(taken)? as u128))
}
