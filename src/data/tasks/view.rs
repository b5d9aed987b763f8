//! Views: how an example is shown to a model, and which of its tokens are supervised.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::example::Example;
use super::special::{ANS, EOS, FILL, SEP, STEP};
use super::task::Task;
use crate::data::batch::IGNORED;
use crate::error::{Error, Result};

/// How much of the chain is shown, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum View {
    /// `input SEP answer EOS`: next tokens, the answer at once.
    Direct,
    /// `input SEP s_1 STEP s_2 .. s_T ANS answer EOS`: next tokens, the whole chain.
    Chain,
    /// The same with some steps, evenly spaced from the first to the last.
    ChainAt {
        /// Number of steps shown; all, if the chain has no more.
        steps: u16,
    },
    /// `input SEP FILL .. FILL ANS answer EOS`: places to compute in, without information.
    Filler {
        /// How many FILL tokens.
        tokens: u16,
    },
    /// One sequence a step: `what decides it SEP slots`, which hold the state before it and are
    /// read out as the one after it.
    Markov,
    /// `input SEP slots`: the slots hold the state before the first step; after repetition `t` the
    /// targets are step `t`.
    Loop,
    /// `input SEP slots`: the targets of the slots are the answer.
    Final,
}

impl FromStr for View {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, count) = text
            .split_once('=')
            .map_or((text, None), |(name, count)| (name, count.parse::<u16>().ok()));
        match (name, count) {
            ("chain-at", Some(steps @ 1..)) => return Ok(Self::ChainAt { steps }),
            ("filler", Some(tokens)) => return Ok(Self::Filler { tokens }),
            _ => {}
        }
        match text {
            "direct" => Ok(Self::Direct),
            "chain" => Ok(Self::Chain),
            "markov" => Ok(Self::Markov),
            "loop" => Ok(Self::Loop),
            "final" => Ok(Self::Final),
            _ => Err(Error::input(format!("`{text}` is not a view of an example")).hint(
                "expected direct, chain, chain-at=<steps>, filler=<tokens>, markov, loop or final",
            )),
        }
    }
}

/// Input tokens of a model, and their targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// The tokens.
    pub inputs: Vec<u32>,
    /// One row for each supervised repetition, each as long as the inputs: the target of each
    /// token, or [`IGNORED`]. In `loop`, row `t` holds the targets after repetition `t + 1`.
    pub targets: Vec<Vec<u32>>,
}

/// The sequences that show one example: one, or with [`View::Markov`] one a step.
///
/// # Errors
/// The example is not of this task: it has other lengths or unknown tokens.
pub fn encode(task: &Task, example: &Example, view: View) -> Result<Vec<Sequence>> {
    task.fits(example)?;
    let Example { input, steps, answer } = example;
    let chain = |kept: &[&[u32]]| {
        let supervised = [kept.join(&STEP), vec![ANS], answer.clone()].concat();
        vec![next_tokens(&given(input), &supervised)]
    };
    Ok(match view {
        View::Direct => vec![next_tokens(&given(input), answer)],
        View::Chain => chain(&steps.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        View::ChainAt { steps: count } => {
            let kept = evenly_spaced(steps.len(), usize::from(count));
            chain(&kept.map(|step| steps[step].as_slice()).collect::<Vec<_>>())
        }
        View::Filler { tokens } => {
            let filler = vec![FILL; usize::from(tokens)];
            vec![next_tokens(&[given(input), filler, vec![ANS]].concat(), answer)]
        }
        View::Markov => {
            let one = |(step, state): (usize, &Vec<u32>)| {
                let before = task.state_before(example, step);
                slots(&task.context(example, step), &before, std::slice::from_ref(state))
            };
            steps.iter().enumerate().map(one).collect()
        }
        View::Loop => vec![slots(input, &task.state_before(example, 0), steps)],
        View::Final => {
            vec![slots(input, &task.state_before(example, 0), std::slice::from_ref(answer))]
        }
    })
}

fn given(input: &[u32]) -> Vec<u32> {
    [input, &[SEP]].concat()
}

/// Next-token targets for the tokens after `given`, EOS at the end.
fn next_tokens(given: &[u32], supervised: &[u32]) -> Sequence {
    let targets = [&vec![IGNORED; given.len() - 1], supervised, &[EOS]].concat();
    Sequence { inputs: [given, supervised].concat(), targets: vec![targets] }
}

/// Targets of one state after the other in the slots at the end, which hold the state before; a
/// wider answer has FILL in its other slots.
fn slots(input: &[u32], before: &[u32], states: &[Vec<u32>]) -> Sequence {
    let given = given(input);
    let width = states.first().map_or(0, Vec::len);
    let held = before.iter().copied().chain(std::iter::repeat(FILL)).take(width).collect();
    let row = |state: &Vec<u32>| [vec![IGNORED; given.len()], state.clone()].concat();
    Sequence { targets: states.iter().map(row).collect(), inputs: [given, held].concat() }
}

/// `count` of `length` places, from the first to the last, rounded half up; all if `count` is more.
fn evenly_spaced(length: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(length);
    let gaps = count.saturating_sub(1).max(1);
    (0..count).map(move |kept| (kept * (length - 1) + gaps / 2) / gaps)
}
