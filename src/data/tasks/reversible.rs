//! Reversible circuits: the bits after each gate.

use std::ops::Range;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::example::Chains;
use super::rules::{LONGEST_CHAIN, Rules, power, within};
use crate::error::Result;

/// Gates NOT, CNOT and TOFFOLI, each kind equally often, on distinct wires. The input is the start
/// bits, then one token a gate; a step is all bits after a gate.
///
/// Every gate is a bijection, so uniform start bits stay uniform at every depth: no label is rarer
/// than another, as happens below random AND and OR gates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReversibleConfig {
    /// The wires.
    pub wires: usize,
    /// The most gates.
    pub gates: usize,
    /// Whose chain an example shows.
    pub chains: Chains,
}

impl Default for ReversibleConfig {
    fn default() -> Self {
        Self { wires: 6, gates: 8, chains: Chains::Exact }
    }
}

/// Flips `target` if all `controls` are 1.
#[derive(Debug)]
struct Gate {
    controls: [Option<usize>; 2],
    target: usize,
}

#[derive(Debug)]
pub(super) struct Reversible {
    wires: usize,
    longest: usize,
    /// The symbols of each kind, by the number of controls.
    kinds: [Range<u32>; 3],
    gates: Vec<Gate>,
}

/// The symbols of the bits come first.
const BITS: u32 = 2;

impl Reversible {
    pub(super) fn new(config: &ReversibleConfig) -> Result<Self> {
        let wires = config.wires;
        within("wires", &wires, &(3..=32))?;
        within("gates", &config.gates, &(1..=LONGEST_CHAIN))?;
        let one = || (0..wires).map(|a| [Some(a), None]);
        let two = || (0..wires).flat_map(|a| (a + 1..wires).map(move |b| [Some(a), Some(b)]));
        let mut gates = Vec::new();
        let kinds = [vec![[None, None]], one().collect(), two().collect()].map(|kind| {
            let begin = BITS + gates.len() as u32;
            for controls in kind {
                let free = (0..wires).filter(|wire| !controls.contains(&Some(*wire)));
                gates.extend(free.map(|target| Gate { controls, target }));
            }
            begin..BITS + gates.len() as u32
        });
        Ok(Self { wires, longest: config.gates, kinds, gates })
    }
}

impl Rules for Reversible {
    fn symbols(&self) -> usize {
        BITS as usize + self.gates.len()
    }

    /// A bit, or a gate as "not:2", "cnot:0>1", "toffoli:0,1>3".
    fn name(&self, symbol: u32) -> String {
        let Some(gate) = symbol.checked_sub(BITS).map(|gate| &self.gates[gate as usize]) else {
            return symbol.to_string();
        };
        match gate {
            Gate { controls: [None, _], target } => format!("not:{target}"),
            Gate { controls: [Some(control), None], target } => format!("cnot:{control}>{target}"),
            Gate { controls: [Some(a), Some(b)], target } => format!("toffoli:{a},{b}>{target}"),
        }
    }

    fn longest_chain(&self) -> usize {
        self.longest
    }

    fn width(&self) -> usize {
        self.wires
    }

    fn input_symbols(&self, length: usize) -> usize {
        self.wires.saturating_add(length)
    }

    fn distinct_inputs(&self, length: usize) -> Option<u128> {
        power(2, self.wires)?.checked_mul(power(self.gates.len(), length)?)
    }

    fn chance(&self, _length: usize) -> f64 {
        0.5_f64.powi(self.wires as i32)
    }

    fn draw(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut input: Vec<u32> = (0..self.wires).map(|_| rng.random_range(0..BITS)).collect();
        for _ in 0..length {
            let kind = &self.kinds[rng.random_range(0..self.kinds.len())];
            input.push(rng.random_range(kind.clone()));
        }
        input
    }

    fn start(&self, input: &[u32]) -> Vec<u32> {
        input[..self.wires].to_vec()
    }

    fn step(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        let gate = &self.gates[(input[self.wires + step] - BITS) as usize];
        let mut bits = state.to_vec();
        bits[gate.target] ^=
            u32::from(gate.controls.iter().flatten().all(|&wire| state[wire] == 1));
        bits
    }

    fn context(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        [state, &input[self.wires + step..=self.wires + step]].concat()
    }
}
