//! The path-star task: the arm of a star that leads from the centre to the goal.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::example::Chains;
use super::rules::{Rules, arrangements, within};
use crate::error::Result;

/// A star of equally long arms as a shuffled list of edges, each from the centre outward, then the
/// centre and the goal, which ends one arm; Bachmann and Nagarajan 2024, arXiv 2403.06963.
/// Step `t` is node `t` of the path after the centre; the answer is the complete path.
///
/// Only the first node is hard: a model that is taught the true nodes before each learns to follow
/// edges, and never where to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PathStarConfig {
    /// The arms.
    pub arms: usize,
    /// The most edges of an arm.
    pub length: usize,
    /// Whose chain an example shows.
    pub chains: Chains,
}

impl Default for PathStarConfig {
    fn default() -> Self {
        Self { arms: 2, length: 5, chains: Chains::Exact }
    }
}

#[derive(Debug)]
pub(super) struct PathStar {
    arms: usize,
    length: usize,
}

impl PathStar {
    pub(super) fn new(config: &PathStarConfig) -> Result<Self> {
        let PathStarConfig { arms, length, .. } = *config;
        within("arms", &arms, &(1..=64))?;
        within("length", &length, &(1..=64))?;
        Ok(Self { arms, length })
    }

    fn edges(&self, length: usize) -> usize {
        self.arms.saturating_mul(length)
    }
}

/// The node before `node` on its arm.
fn before(edges: &[u32], node: u32) -> Option<u32> {
    edges.chunks_exact(2).find(|edge| edge[1] == node).map(|edge| edge[0])
}

impl Rules for PathStar {
    fn symbols(&self) -> usize {
        self.edges(self.length) + 1
    }

    fn name(&self, symbol: u32) -> String {
        symbol.to_string()
    }

    fn longest_chain(&self) -> usize {
        self.length
    }

    fn width(&self) -> usize {
        1
    }

    fn input_symbols(&self, length: usize) -> usize {
        self.edges(length).saturating_mul(2).saturating_add(2)
    }

    fn answer_symbols(&self, length: usize) -> usize {
        length
    }

    fn distinct_inputs(&self, length: usize) -> Option<u128> {
        // Nodes for every place, orders of the edges, and a goal; the order of the arms is not seen.
        let edges = self.edges(length);
        let seen = arrangements(self.symbols(), edges + 1)? / arrangements(self.arms, self.arms)?;
        seen.checked_mul(arrangements(edges, edges)?)?.checked_mul(self.arms as u128)
    }

    fn chance(&self, _length: usize) -> f64 {
        1.0 / self.arms as f64
    }

    fn draw(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut nodes: Vec<u32> = (0..self.symbols() as u32).collect();
        nodes.shuffle(rng);
        let (centre, outer) = (nodes[0], &nodes[1..=self.edges(length)]);
        let mut edges = Vec::with_capacity(outer.len());
        for arm in outer.chunks_exact(length) {
            edges.push([centre, arm[0]]);
            edges.extend(arm.windows(2).map(|pair| [pair[0], pair[1]]));
        }
        edges.shuffle(rng);
        let goal = outer[(rng.random_range(0..self.arms) + 1) * length - 1];
        edges.into_iter().flatten().chain([centre, goal]).collect()
    }

    fn start(&self, input: &[u32]) -> Vec<u32> {
        vec![input[input.len() - 2]]
    }

    /// Walks back from the goal, where there is no choice.
    fn step(&self, input: &[u32], state: &[u32], _step: usize) -> Vec<u32> {
        let (edges, goal) = (&input[..input.len() - 2], input[input.len() - 1]);
        let mut node = goal;
        while let Some(nearer) = before(edges, node).filter(|nearer| *nearer != state[0]) {
            node = nearer;
        }
        vec![node]
    }

    fn context(&self, input: &[u32], state: &[u32], _step: usize) -> Vec<u32> {
        let (edges, goal) = (&input[..input.len() - 2], input[input.len() - 1]);
        [edges, state, &[goal]].concat()
    }

    fn answer(&self, steps: &[Vec<u32>]) -> Vec<u32> {
        steps.concat()
    }
}
