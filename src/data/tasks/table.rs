//! The control task: every step has a random table of its own, so nothing can be factored.

use rand::Rng;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::example::Chains;
use super::rules::{LONGEST_CHAIN, Rules, power, within};
use crate::error::{Error, Result};

/// Entries of all tables together: 64 MiB.
const MOST_ENTRIES: usize = 1 << 24;

/// The control of the word task: `s_t = R_t[s_(t-1), x_t]` with another random table at every step.
/// The input is `s_0`, then the keys `x_t`.
///
/// For each key a table permutes the states, so that a uniform start stays uniform and no step
/// forgets, as in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TableConfig {
    /// How many states there are, and how many keys.
    pub keys: usize,
    /// The most steps, and the number of tables.
    pub length: usize,
    /// The tables are drawn from this seed.
    pub table_seed: u64,
    /// Whose chain an example shows.
    pub chains: Chains,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self { keys: 6, length: 16, table_seed: 0, chains: Chains::Exact }
    }
}

#[derive(Debug)]
pub(super) struct Table {
    keys: usize,
    length: usize,
    /// `entries[(step * keys + key) * keys + state]`.
    entries: Vec<u32>,
}

impl Table {
    pub(super) fn new(config: &TableConfig) -> Result<Self> {
        let TableConfig { keys, length, table_seed, .. } = *config;
        within("keys", &keys, &(2..=LONGEST_CHAIN))?;
        within("length", &length, &(1..=LONGEST_CHAIN))?;
        if length * keys * keys > MOST_ENTRIES {
            return Err(Error::input(format!(
                "{length} tables of {keys} by {keys} entries are more than {MOST_ENTRIES} entries"
            ))
            .hint("choose a smaller `keys` or `length`"));
        }
        let mut hasher = blake3::Hasher::new_derive_key("factorexe task tables 1");
        hasher.update(&table_seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
        let column = |_| {
            let mut states: Vec<u32> = (0..keys as u32).collect();
            states.shuffle(&mut rng);
            states
        };
        Ok(Self { keys, length, entries: (0..length * keys).flat_map(column).collect() })
    }

    /// The state after a step that was `state` before.
    pub(super) fn next(&self, step: usize, key: u32, state: u32) -> u32 {
        self.entries[(step * self.keys + key as usize) * self.keys + state as usize]
    }
}

impl Rules for Table {
    /// The states, which are the keys, then one symbol a step.
    fn symbols(&self) -> usize {
        self.keys + self.length
    }

    fn name(&self, symbol: u32) -> String {
        match symbol.checked_sub(self.keys as u32) {
            None => symbol.to_string(),
            Some(step) => format!("step:{}", step + 1),
        }
    }

    fn longest_chain(&self) -> usize {
        self.length
    }

    fn width(&self) -> usize {
        1
    }

    fn input_symbols(&self, length: usize) -> usize {
        length.saturating_add(1)
    }

    fn distinct_inputs(&self, length: usize) -> Option<u128> {
        power(self.keys, self.input_symbols(length))
    }

    fn chance(&self, _length: usize) -> f64 {
        1.0 / self.keys as f64
    }

    fn draw(&self, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        (0..=length).map(|_| rng.random_range(0..self.keys as u32)).collect()
    }

    fn start(&self, input: &[u32]) -> Vec<u32> {
        vec![input[0]]
    }

    fn step(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        vec![self.next(step, input[step + 1], state[0])]
    }

    /// The tables differ, so the step is named.
    fn context(&self, input: &[u32], state: &[u32], step: usize) -> Vec<u32> {
        vec![(self.keys + step) as u32, state[0], input[step + 1]]
    }
}
