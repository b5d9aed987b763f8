//! The word problem of a finite group: the product of a sequence of elements.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::example::Chains;
use super::group::{Group, GroupName};
use super::rules::{LONGEST_CHAIN, Rules, power, within};
use crate::error::{Error, Result};

/// 60 elements, as many as A5 has: the same size, another algebra.
pub(super) const DEFAULT_MODULUS: u32 = 60;

/// Products of group elements: `s_0` is the identity, `s_t = s_(t-1) * x_t`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WordConfig {
    /// The group.
    pub group: GroupName,
    /// The order of the group `zm`, 60 if not given; the other groups have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modulus: Option<u32>,
    /// The most factors.
    pub length: usize,
    /// Factors are drawn from this many elements that generate the group; from all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generators: Option<usize>,
    /// Whose chain an example shows.
    pub chains: Chains,
}

impl Default for WordConfig {
    fn default() -> Self {
        Self {
            group: GroupName::S3,
            modulus: None,
            length: 16,
            generators: None,
            chains: Chains::Exact,
        }
    }
}

#[derive(Debug)]
pub(super) struct Word {
    group: Group,
    factors: Vec<u32>,
    length: usize,
}

impl Word {
    pub(super) fn new(config: &WordConfig) -> Result<Self> {
        within("length", &config.length, &(1..=LONGEST_CHAIN))?;
        let modulus = config.modulus.unwrap_or(DEFAULT_MODULUS);
        within("modulus", &modulus, &(2..=4096))?;
        if config.modulus.is_some() && config.group != GroupName::Zm {
            return Err(Error::input("`modulus` is given, but only the group zm has one"));
        }
        let group = Group::new(config.group, modulus);
        let all = group.order() as usize;
        let count = config.generators.unwrap_or(all);
        within("generators", &count, &(1..=all))?;
        let factors = group.generating_set(count).ok_or_else(|| {
            Error::input(format!("`generators` is {count}, but no {count} elements generate it"))
                .hint("two elements generate each of these groups; one generates z2 and zm")
        })?;
        Ok(Self { group, factors, length: config.length })
    }
}

impl Rules for Word {
    fn symbols(&self) -> usize {
        self.group.order() as usize
    }

    fn name(&self, symbol: u32) -> String {
        self.group.name(symbol)
    }

    fn longest_chain(&self) -> usize {
        self.length
    }

    fn width(&self) -> usize {
        1
    }

    fn input_symbols(&self, length: usize) -> usize {
        length
    }

    fn distinct_inputs(&self, length: usize) -> Option<u128> {
        power(self.factors.len(), length)
    }

    fn chance(&self, _length: usize) -> f64 {
        1.0 / f64::from(self.group.order())
    }

    fn draw(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        (0..length).map(|_| self.factors[rng.random_range(0..self.factors.len())]).collect()
    }

    fn start(&self, _input: &[u32]) -> Vec<u32> {
        vec![0]
    }

    fn step(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        vec![self.group.multiply(state[0], input[step])]
    }

    fn context(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        vec![state[0], input[step]]
    }
}
