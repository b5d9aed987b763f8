//! The task of multiplying two numbers, one partial product a step.

use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::digits::{self, DIGITS};
use super::example::Chains;
use super::rules::{Rules, power, within};
use crate::error::Result;

/// Products of two numbers, least digit first; step `t` is the sum of the first `t` partial
/// products, twice as wide as a factor.
///
/// The second factor has as many digits as the chain has steps; the first always has `digits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MultiplicationConfig {
    /// The digits of a factor.
    pub digits: usize,
    /// Whose chain an example shows.
    pub chains: Chains,
}

impl Default for MultiplicationConfig {
    fn default() -> Self {
        Self { digits: 3, chains: Chains::Exact }
    }
}

#[derive(Debug)]
pub(super) struct Multiplication {
    digits: usize,
}

impl Multiplication {
    pub(super) fn new(config: &MultiplicationConfig) -> Result<Self> {
        // A product of 38 digits still fits 128 bits.
        within("digits", &config.digits, &(1..=19))?;
        Ok(Self { digits: config.digits })
    }
}

impl Rules for Multiplication {
    fn symbols(&self) -> usize {
        DIGITS
    }

    fn name(&self, symbol: u32) -> String {
        symbol.to_string()
    }

    fn longest_chain(&self) -> usize {
        self.digits
    }

    fn width(&self) -> usize {
        2 * self.digits
    }

    fn input_symbols(&self, length: usize) -> usize {
        self.digits.saturating_add(length)
    }

    fn distinct_inputs(&self, length: usize) -> Option<u128> {
        power(DIGITS, self.input_symbols(length))
    }

    fn chance(&self, length: usize) -> f64 {
        10_f64.powi(-(self.input_symbols(length) as i32))
    }

    fn draw(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        digits::draw(self.input_symbols(length), rng)
    }

    fn start(&self, _input: &[u32]) -> Vec<u32> {
        vec![0; self.width()]
    }

    fn step(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        digits::add_multiple(state, &input[..self.digits], input[self.digits + step], step)
    }

    /// The second factor keeps only the digit of this step: its place is the shift.
    fn context(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        let (first, second) = input.split_at(self.digits);
        let only = second.iter().enumerate().map(|(at, &digit)| if at == step { digit } else { 0 });
        state.iter().chain(first).copied().chain(only).collect()
    }
}
