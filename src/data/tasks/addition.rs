//! The task of adding several numbers, one partial sum a step.

use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::digits::{self, DIGITS};
use super::example::Chains;
use super::rules::{LONGEST_CHAIN, Rules, power, within};
use crate::error::Result;

/// Sums of equally long numbers, least digit first; step `t` is the sum of the first `t` operands,
/// as wide as the largest sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdditionConfig {
    /// The most operands.
    pub operands: usize,
    /// The digits of an operand.
    pub digits: usize,
    /// Whose chain an example shows.
    pub chains: Chains,
}

impl Default for AdditionConfig {
    fn default() -> Self {
        Self { operands: 4, digits: 3, chains: Chains::Exact }
    }
}

#[derive(Debug)]
pub(super) struct Addition {
    operands: usize,
    digits: usize,
    width: usize,
}

impl Addition {
    pub(super) fn new(config: &AdditionConfig) -> Result<Self> {
        let AdditionConfig { operands, digits, .. } = *config;
        within("operands", &operands, &(1..=LONGEST_CHAIN))?;
        within("digits", &digits, &(1..=30))?;
        let largest = operands as u128 * (10_u128.pow(digits as u32) - 1);
        Ok(Self { operands, digits, width: largest.to_string().len() })
    }

    fn operand<'a>(&self, input: &'a [u32], step: usize) -> &'a [u32] {
        &input[step * self.digits..(step + 1) * self.digits]
    }
}

impl Rules for Addition {
    fn symbols(&self) -> usize {
        DIGITS
    }

    fn name(&self, symbol: u32) -> String {
        symbol.to_string()
    }

    fn longest_chain(&self) -> usize {
        self.operands
    }

    fn width(&self) -> usize {
        self.width
    }

    fn input_symbols(&self, length: usize) -> usize {
        self.digits.saturating_mul(length)
    }

    fn distinct_inputs(&self, length: usize) -> Option<u128> {
        power(DIGITS, self.input_symbols(length))
    }

    fn chance(&self, length: usize) -> f64 {
        let largest = length as f64 * (10_f64.powi(self.digits as i32) - 1.0);
        1.0 / (largest + 1.0)
    }

    fn draw(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        digits::draw(self.input_symbols(length), rng)
    }

    fn start(&self, _input: &[u32]) -> Vec<u32> {
        vec![0; self.width]
    }

    fn step(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        digits::add_multiple(state, self.operand(input, step), 1, 0)
    }

    fn context(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        [state, self.operand(input, step)].concat()
    }
}
