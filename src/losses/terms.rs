//! What is compared, how the comparisons are weighed, and what they found.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::host;
use crate::nn::embedding::check_tokens;
use crate::nn::gather::gather_tensor;

/// The teacher's side of the comparison.
#[derive(Debug, Clone)]
pub enum TeacherOutput {
    /// Its last state and its head: the logits are made chunk by chunk.
    Head(TeacherHead),
    /// Its logits, (B, T, V).
    Logits(Tensor),
    /// Its likeliest tokens, as they are kept on disk.
    Top(TopTokens),
}

impl TeacherOutput {
    /// What it says at `places`, counted through (B, T) row by row.
    ///
    /// # Errors
    /// A place is past the last token.
    pub fn at(&self, places: &[usize]) -> Result<Self> {
        Ok(match self {
            Self::Head(TeacherHead { hidden, weight }) => {
                let (hidden, weight) = (gather_tensor(hidden, places)?, weight.clone());
                Self::Head(TeacherHead { hidden, weight })
            }
            Self::Logits(logits) => Self::Logits(gather_tensor(logits, places)?),
            Self::Top(top) => Self::Top(top.at(places)),
        })
    }
}

/// What the teacher's logits are made of.
#[derive(Debug, Clone)]
pub struct TeacherHead {
    /// Normed last state, (B, T, D of the teacher).
    pub hidden: Tensor,
    /// Head, (V, D of the teacher).
    pub weight: Tensor,
}

/// How the two comparisons are weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadWeights {
    /// Of the cross entropy with the next token.
    pub cross_entropy: f32,
    /// Of KL(teacher || student), multiplied by the squared temperature. Hinton et al. 2015.
    pub kl: f32,
    /// Divides both sides' logits in the KL.
    pub temperature: f32,
}

/// What was found, token by token, in the order of the targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeadTerms {
    /// -log p of the next token, in nats.
    pub cross_entropy: Vec<f32>,
    /// KL(teacher || student) at the temperature, in nats; empty without a teacher.
    pub kl: Vec<f32>,
    /// Whether both prefer the same token; empty without a teacher.
    pub agree: Vec<bool>,
}

/// The mean of a list.
#[must_use]
pub fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}

pub(crate) struct Row {
    pub(crate) cross_entropy: f32,
    pub(crate) kl: f32,
    pub(crate) agree: bool,
}

/// The highest value, its place, and the log of the sum of exponentials at a temperature.
#[inline(always)]
pub(crate) fn log_sum_exp(values: &[f32], temperature: f32) -> (f32, f32) {
    let highest = host::highest(values);
    let inverse = 1.0 / temperature;
    let sum = host::sum_of(
        values,
        #[inline(always)]
        |value| host::exp((value - highest) * inverse),
    );
    (highest, highest * inverse + sum.ln())
}

/// How the width of a state is scaled before states are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateScale {
    /// Not at all: a few huge dimensions decide.
    Raw,
    /// Every dimension by the root mean square of the target in it: all dimensions count alike.
    #[default]
    Dimension,
}

/// How two states are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StateComparison {
    /// Weight of the relative squared error, sum |h - t|^2 / sum |t|^2.
    pub squared: f32,
    /// Weight of 1 - cosine.
    pub cosine: f32,
    /// Scaling of the width.
    pub scale: StateScale,
    /// Tokens at the start of every row that are not compared: many models park huge numbers there.
    pub skip_tokens: usize,
}

/// What was found, averaged over the compared tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StateTerms {
    /// Mean over tokens of |h - t|^2 / |t|^2.
    pub squared: f64,
    /// Mean over tokens of the cosine.
    pub cosine: f64,
}

/// The likeliest tokens of a distribution at every position, and what all others weigh together.
#[derive(Debug, Clone, PartialEq)]
pub struct TopTokens {
    /// k tokens a position, the likeliest first: B T k of them.
    pub ids: Vec<u32>,
    /// log p of each, in nats, at the temperature: B T k of them.
    pub log_p: Vec<f32>,
    /// log of the mass of all other tokens, in nats: B T of them; minus infinity: there are none.
    pub log_tail: Vec<f32>,
    /// The logits were divided by it.
    pub temperature: f32,
}

/// One position.
#[derive(Clone, Copy)]
pub(crate) struct TopRow<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) log_p: &'a [f32],
    pub(crate) log_tail: f32,
}

impl TopTokens {
    /// The `kept` likeliest tokens of some rows of logits, each `vocabulary` long.
    #[must_use]
    pub fn of_logits(logits: &[f32], vocabulary: usize, kept: usize, temperature: f32) -> Self {
        let kept = kept.clamp(1, vocabulary);
        let rows = logits.len() / vocabulary;
        let mut top = Self {
            ids: Vec::with_capacity(rows * kept),
            log_p: Vec::with_capacity(rows * kept),
            log_tail: Vec::with_capacity(rows),
            temperature,
        };
        let mut order: Vec<u32> = Vec::with_capacity(vocabulary);
        for logits in logits.chunks_exact(vocabulary) {
            let (_, log_sum) = host::vectorised(
                #[inline(always)]
                || log_sum_exp(logits, temperature),
            );
            let log_p = |id: u32| logits[id as usize] / temperature - log_sum;
            let highest_first = |a: &u32, b: &u32| {
                logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
            };
            order.clear();
            order.extend(0..vocabulary as u32);
            if kept < vocabulary {
                order.select_nth_unstable_by(kept - 1, highest_first);
            }
            let tail = order[kept..].iter().map(|&id| f64::from(log_p(id)).exp()).sum::<f64>();
            order[..kept].sort_unstable_by(highest_first);
            top.log_tail.push(tail.ln() as f32);
            top.log_p.extend(order[..kept].iter().map(|&id| log_p(id)));
            top.ids.extend_from_slice(&order[..kept]);
        }
        top
    }

    /// k, tokens kept at a position.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.ids.len() / self.log_tail.len().max(1)
    }

    /// Those at some positions.
    #[must_use]
    pub fn at(&self, positions: &[usize]) -> Self {
        let rows = || positions.iter().map(|&position| self.row(position));
        Self {
            ids: rows().flat_map(|row| row.ids.iter().copied()).collect(),
            log_p: rows().flat_map(|row| row.log_p.iter().copied()).collect(),
            log_tail: rows().map(|row| row.log_tail).collect(),
            temperature: self.temperature,
        }
    }

    pub(crate) fn row(&self, position: usize) -> TopRow<'_> {
        let kept = self.kept();
        let span = position * kept..(position + 1) * kept;
        TopRow {
            ids: &self.ids[span.clone()],
            log_p: &self.log_p[span],
            log_tail: self.log_tail[position],
        }
    }

    /// Refuses tokens that do not stand for `positions` positions of a vocabulary.
    pub(crate) fn check(
        &self,
        positions: usize,
        vocabulary: usize,
        temperature: f32,
    ) -> Result<()> {
        let kept = self.kept();
        let fits = self.log_tail.len() == positions
            && self.ids.len() == positions * kept
            && self.log_p.len() == self.ids.len()
            && (1..=vocabulary).contains(&kept);
        if !fits || (self.temperature - temperature).abs() > f32::EPSILON {
            return Err(Error::internal(format!(
                "{} tokens at temperature {} stand for {positions} positions at {temperature}",
                self.ids.len(),
                self.temperature
            )));
        }
        check_tokens(&self.ids, vocabulary)
    }
}
