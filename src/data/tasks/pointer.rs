//! Where do the pointers lead after so many hops?

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::example::Chains;
use super::rules::{LONGEST_CHAIN, Rules, arrangements, within};
use crate::error::Result;

/// Pointer jumping: `f(0) .. f(nodes - 1)`, then the start `s`; step `t` is `f^t(s)`.
///
/// The pointers form one cycle through all nodes, so that no hop count leads back to the start: on
/// random permutations, copying the start is right surprisingly often. The number of hops is not
/// in the input: give it by the repetitions, or train on one length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PointerConfig {
    /// The nodes.
    pub nodes: usize,
    /// The most hops; with fewer than nodes none leads back to the start.
    pub hops: usize,
    /// Whose chain an example shows.
    pub chains: Chains,
}

impl Default for PointerConfig {
    fn default() -> Self {
        Self { nodes: 16, hops: 8, chains: Chains::Exact }
    }
}

#[derive(Debug)]
pub(super) struct Pointer {
    nodes: usize,
    hops: usize,
}

impl Pointer {
    pub(super) fn new(config: &PointerConfig) -> Result<Self> {
        let PointerConfig { nodes, hops, .. } = *config;
        within("nodes", &nodes, &(2..=LONGEST_CHAIN))?;
        within("hops", &hops, &(1..=LONGEST_CHAIN))?;
        Ok(Self { nodes, hops })
    }
}

impl Rules for Pointer {
    fn symbols(&self) -> usize {
        self.nodes
    }

    fn name(&self, symbol: u32) -> String {
        symbol.to_string()
    }

    fn longest_chain(&self) -> usize {
        self.hops
    }

    fn width(&self) -> usize {
        1
    }

    fn input_symbols(&self, _length: usize) -> usize {
        self.nodes + 1
    }

    fn distinct_inputs(&self, _length: usize) -> Option<u128> {
        // (nodes - 1)! cycles, each with any start.
        arrangements(self.nodes, self.nodes)
    }

    fn chance(&self, _length: usize) -> f64 {
        1.0 / (self.nodes - 1) as f64
    }

    fn draw(&self, _length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut pointers: Vec<u32> = (0..self.nodes as u32).collect();
        // Swapping only with earlier places gives a uniform single cycle; Sattolo 1986.
        for last in (1..self.nodes).rev() {
            pointers.swap(last, rng.random_range(0..last));
        }
        pointers.push(rng.random_range(0..self.nodes as u32));
        pointers
    }

    fn start(&self, input: &[u32]) -> Vec<u32> {
        vec![input[self.nodes]]
    }

    fn step(&self, input: &[u32], state: &[u32], _step: usize) -> Vec<u32> {
        vec![input[state[0] as usize]]
    }

    fn context(&self, input: &[u32], state: &[u32], _step: usize) -> Vec<u32> {
        [&input[..self.nodes], state].concat()
    }
}
