//! Independent checks of the examples of every task: each step is computed a second way.
//!
//! The names of the tokens are read as a person reads them. Products of permutations are applied
//! point by point from the right, pointers and circuits run backwards, sums and products are those
//! of 128-bit integers, and a way is looked for among the edges. Only the random tables themselves
//! are shared with the generator.

use super::config::TaskConfig;
use super::example::{Chains, Example};
use super::group::GroupName;
use super::table::Table;
use super::task::Task;
use super::word::{DEFAULT_MODULUS, WordConfig};
use crate::error::{Error, Result};

/// Checks the answer of an example and, unless its task shows the chains of others, every step.
///
/// # Errors
/// What is wrong first: a shape, a token, a step or the answer.
pub fn check(task: &Task, example: &Example) -> Result<()> {
    task.fits(example)?;
    let named = task.named(example);
    let checker = Checker::new(task.config(), &named.input, named.chain.len())?;
    if task.config().chains() == Chains::Exact {
        for (index, state) in named.chain.iter().enumerate() {
            if checker.holds(index + 1, state) != Some(true) {
                let (step, state) = (index + 1, state.join(" "));
                return Err(Error::input(format!("step {step} is \"{state}\", which is wrong")));
            }
        }
    }
    let is_right = match task.config() {
        TaskConfig::PathStar(_) => (1..)
            .zip(named.answer.chunks(1))
            .all(|(step, node)| checker.holds(step, node) == Some(true)),
        _ => checker.holds(named.chain.len(), &named.answer) == Some(true),
    };
    if is_right {
        return Ok(());
    }
    Err(Error::input(format!("the answer is \"{}\", which is wrong", named.answer.join(" "))))
}

struct Checker<'a> {
    config: &'a TaskConfig,
    input: &'a [String],
    length: usize,
    table: Option<Table>,
}

impl<'a> Checker<'a> {
    fn new(config: &'a TaskConfig, input: &'a [String], length: usize) -> Result<Self> {
        let table = match config {
            TaskConfig::Table(config) => Some(Table::new(config)?),
            _ => None,
        };
        Ok(Self { config, input, length, table })
    }

    /// Is this the state after `steps` steps? None where something cannot be read.
    fn holds(&self, steps: usize, state: &[String]) -> Option<bool> {
        match self.config {
            TaskConfig::Word(config) => word(config, self.input.get(..steps)?, state.first()?),
            TaskConfig::Pointer(config) => {
                let (pointers, start) = self.input.split_at_checked(config.nodes)?;
                pointer(pointers, steps, state.first()?, start.first()?)
            }
            TaskConfig::Revcirc(config) => {
                let (start, gates) = self.input.split_at_checked(config.wires)?;
                circuit(start, gates.get(..steps)?, state)
            }
            TaskConfig::Addition(config) => {
                let operands = self.input.chunks(config.digits).take(steps);
                let sum = operands.map(number).sum::<Option<u128>>()?;
                Some(number(state)? == sum)
            }
            TaskConfig::Multiplication(config) => {
                let (first, second) = self.input.split_at_checked(config.digits)?;
                Some(number(state)? == number(first)? * number(second.get(..steps)?)?)
            }
            TaskConfig::Table(config) => {
                let numbers: Vec<u32> = self.input.iter().map(parsed).collect::<Option<_>>()?;
                let (start, keys) = numbers.split_first()?;
                let table = self.table.as_ref()?;
                let back = |state: u32, (step, key): (usize, &u32)| {
                    (0..config.keys as u32).find(|before| table.next(step, *key, *before) == state)
                };
                let taken = keys.get(..steps)?.iter().enumerate().rev();
                Some(taken.fold(parsed(state.first()?), |at, key| back(at?, key))? == *start)
            }
            TaskConfig::PathStar(_) => way(self.input, self.length, steps, state.first()?),
        }
    }
}

fn parsed<T: std::str::FromStr>(text: impl AsRef<str>) -> Option<T> {
    text.as_ref().parse().ok()
}

/// A number whose least digit comes first.
fn number(digits: &[String]) -> Option<u128> {
    parsed(digits.iter().rev().map(String::as_str).collect::<String>())
}

fn word(config: &WordConfig, factors: &[String], product: &str) -> Option<bool> {
    let modulus = match config.group {
        GroupName::Z2 => 2,
        GroupName::Zm => config.modulus.unwrap_or(DEFAULT_MODULUS),
        GroupName::S3 | GroupName::S4 | GroupName::S5 | GroupName::A4 | GroupName::A5 => {
            return permutation(factors, product);
        }
    };
    let sum = factors.iter().map(parsed::<u64>).sum::<Option<u64>>()?;
    Some(sum % u64::from(modulus) == parsed::<u64>(product)?)
}

/// Sends every point through the factors, the last first.
fn permutation(factors: &[String], product: &str) -> Option<bool> {
    let image = |map: &str, point: usize| Some(map.chars().nth(point)?.to_digit(10)? as usize);
    for point in 0..product.len() {
        let through = factors.iter().rev().try_fold(point, |at, map| image(map, at))?;
        if through != image(product, point)? {
            return Some(false);
        }
    }
    Some(true)
}

/// Walks back along the pointers.
fn pointer(pointers: &[String], hops: usize, end: &str, start: &str) -> Option<bool> {
    let leads_to = |edge: &String, node: &str| {
        edge.split_once('>').map_or(edge.as_str(), |(_, to)| to) == node
    };
    let back = |node: String| {
        let before = pointers.iter().position(|edge| leads_to(edge, &node))?;
        let written = pointers[before].split_once('>').map(|(from, _)| from.to_owned());
        written.is_none_or(|from| from == before.to_string()).then(|| before.to_string())
    };
    Some((0..hops).try_fold(end.to_owned(), |node, _| back(node))? == start)
}

/// Runs the gates backwards: each undoes itself.
fn circuit(start: &[String], gates: &[String], end: &[String]) -> Option<bool> {
    let mut bits: Vec<u8> = end.iter().map(parsed).collect::<Option<_>>()?;
    for gate in gates.iter().rev() {
        let (_, wires) = gate.split_once(':')?;
        let (controls, target) = wires.rsplit_once('>').unwrap_or(("", wires));
        let controls = controls.split(',').filter(|wire| !wire.is_empty());
        let are_set = controls.map(|wire| bits.get(parsed::<usize>(wire)?).map(|bit| *bit == 1));
        let flip = u8::from(are_set.collect::<Option<Vec<_>>>()?.into_iter().all(|is_set| is_set));
        *bits.get_mut(parsed::<usize>(target)?)? ^= flip;
    }
    Some(start.iter().map(parsed::<u8>).eq(bits.into_iter().map(Some)))
}

/// Is `node` so many steps from the centre, and the rest of the way from the goal?
fn way(input: &[String], length: usize, steps: usize, node: &str) -> Option<bool> {
    let (edges, [centre, goal]) = input.split_last_chunk()?;
    let leads =
        |from: &str, to: &str| edges.chunks_exact(2).any(|edge| edge[0] == from && edge[1] == to);
    let nodes = || edges.iter().map(String::as_str);
    let back = |node| nodes().find(|before| leads(before, node));
    let ahead = |node| nodes().find(|after| leads(node, after));
    let begin = (0..steps).try_fold(node, |node, _| back(node))?;
    let end = (steps..length).try_fold(node, |node, _| ahead(node))?;
    Some(begin == centre && end == goal)
}
