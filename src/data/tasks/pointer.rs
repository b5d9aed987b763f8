//! Pointer jumping: the node reached after a number of hops.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::example::Chains;
use super::rules::{LONGEST_CHAIN, Rules, arrangements, within};
use crate::error::Result;

/// How the pointers are written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pointers {
    /// By where they lead, node after node: which node is next to be read off the place.
    #[default]
    Places,
    /// From where to where, a token an edge: one look at all edges is one hop, wherever they stand.
    Edges,
}

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
    /// How the pointers are written down.
    pub pointers: Pointers,
    /// Whose chain an example shows.
    pub chains: Chains,
}

impl Default for PointerConfig {
    fn default() -> Self {
        Self { nodes: 16, hops: 8, pointers: Pointers::Places, chains: Chains::Exact }
    }
}

/// Nodes at most, where every pair of them is a token.
const MOST_EDGES: usize = 64;

#[derive(Debug)]
pub(super) struct Pointer {
    nodes: usize,
    hops: usize,
    written: Pointers,
}

impl Pointer {
    pub(super) fn new(config: &PointerConfig) -> Result<Self> {
        let PointerConfig { nodes, hops, pointers: written, .. } = *config;
        let most = if written == Pointers::Edges { MOST_EDGES } else { LONGEST_CHAIN };
        within("nodes", &nodes, &(2..=most))?;
        within("hops", &hops, &(1..=LONGEST_CHAIN))?;
        Ok(Self { nodes, hops, written })
    }
}

impl Rules for Pointer {
    fn symbols(&self) -> usize {
        match self.written {
            Pointers::Places => self.nodes,
            Pointers::Edges => self.nodes * (self.nodes + 1),
        }
    }

    fn name(&self, symbol: u32) -> String {
        let nodes = self.nodes as u32;
        match symbol.checked_sub(nodes) {
            None => symbol.to_string(),
            Some(edge) => format!("{}>{}", edge / nodes, edge % nodes),
        }
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
        let nodes = self.nodes as u32;
        if self.written == Pointers::Edges {
            for (from, to) in (0..).zip(&mut pointers) {
                *to += nodes * (1 + from);
            }
        }
        pointers.push(rng.random_range(0..nodes));
        pointers
    }

    fn start(&self, input: &[u32]) -> Vec<u32> {
        vec![input[self.nodes]]
    }

    fn step(&self, input: &[u32], state: &[u32], _step: usize) -> Vec<u32> {
        vec![input[state[0] as usize] % self.nodes as u32]
    }

    fn context(&self, input: &[u32], state: &[u32], _step: usize) -> Vec<u32> {
        [&input[..self.nodes], state].concat()
    }
}
