//! Inputs, weights and results of the losses.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::host;
use crate::nn::{check_tokens, gather_tensor};

/// The teacher's output distribution at every position.
#[derive(Debug, Clone)]
pub enum TeacherOutput {
    /// Its last state and its head; logits are computed chunk by chunk.
    Head(TeacherHead),
    /// Its logits, (B, T, V).
    Logits(Tensor),
    /// Its top-k tokens, as they are cached on disk.
    Top(TopTokens),
}

impl TeacherOutput {
    /// The output at `places`, indices into the flattened (B, T).
    ///
    /// # Errors
    /// A place is past the last token.
    pub fn gather(&self, places: &[usize]) -> Result<Self> {
        Ok(match self {
            Self::Head(TeacherHead { hidden, weight }) => {
                let (hidden, weight) = (gather_tensor(hidden, places)?, weight.clone());
                Self::Head(TeacherHead { hidden, weight })
            }
            Self::Logits(logits) => Self::Logits(gather_tensor(logits, places)?),
            Self::Top(top) => Self::Top(top.gather(places)),
        })
    }
}

/// The state and the head whose product is the teacher's logits.
#[derive(Debug, Clone)]
pub struct TeacherHead {
    /// Normed last state, (B, T, D of the teacher).
    pub hidden: Tensor,
    /// Head, (V, D of the teacher).
    pub weight: Tensor,
}

/// Weights of the output loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadWeights {
    /// Weight of the cross entropy with the next token.
    pub cross_entropy: f32,
    /// Weight of KL(teacher || student), multiplied by the squared temperature. Hinton et al. 2015.
    pub kl: f32,
    /// Temperature of the KL: divides the logits of teacher and student.
    pub temperature: f32,
}

/// Terms of the output loss by token, in the order of the targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeadTerms {
    /// -log p of the next token, in nats.
    pub cross_entropy: Vec<f32>,
    /// KL(teacher || student) at the temperature, in nats; empty without a teacher.
    pub kl: Vec<f32>,
    /// Whether teacher and student have the same most likely token; empty without a teacher.
    pub agree: Vec<bool>,
}

/// The mean of `values`, 0 of an empty slice.
#[must_use]
pub fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}

/// Terms of the output loss of one token.
pub(crate) struct Row {
    pub(crate) cross_entropy: f32,
    pub(crate) kl: f32,
    pub(crate) agree: bool,
}

/// The largest value, and the log of the sum of exponentials at a temperature.
#[inline(always)]
pub(crate) fn log_sum_exp(values: &[f32], temperature: f32) -> (f32, f32) {
    let max = host::max(values);
    let inverse = 1.0 / temperature;
    let sum = host::sum_of(
        values,
        #[inline(always)]
        |value| host::exp((value - max) * inverse),
    );
    (max, max * inverse + sum.ln())
}

/// Scaling of the dimensions of a state before states are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateScale {
    /// None: a few large dimensions dominate.
    Raw,
    /// Each dimension is divided by its root mean square in the target, so that all weigh alike.
    #[default]
    Dimension,
}

/// Weights and scaling of the hidden-state loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StateComparison {
    /// Weight of the relative squared error, sum |h - t|^2 / sum |t|^2.
    pub squared: f32,
    /// Weight of 1 - cosine.
    pub cosine: f32,
    /// Scaling of the dimensions.
    pub scale: StateScale,
    /// Tokens at the start of every sequence that are not compared: attention sinks, whose states are
    /// large in many models.
    pub skip_tokens: usize,
}

/// Terms of the hidden-state loss, means over the compared tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StateTerms {
    /// Mean over tokens of |h - t|^2 / |t|^2.
    pub squared: f64,
    /// Mean over tokens of the cosine.
    pub cosine: f64,
}

/// The top-k tokens of a distribution at every position, and the mass of all others.
#[derive(Debug, Clone, PartialEq)]
pub struct TopTokens {
    /// Ids of the tokens, the most likely first, (B, T, k) flattened.
    pub ids: Vec<u32>,
    /// log p of the tokens at the temperature, in nats, (B, T, k) flattened.
    pub log_p: Vec<f32>,
    /// Log of the mass of all other tokens, in nats, (B, T) flattened; minus infinity if there are
    /// none.
    pub log_tail: Vec<f32>,
    /// Temperature that the logits were divided by.
    pub temperature: f32,
}

/// The top-k tokens of one position.
#[derive(Clone, Copy)]
pub(crate) struct TopRow<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) log_p: &'a [f32],
    pub(crate) log_tail: f32,
}

impl TopTokens {
    /// The top-k tokens of rows of logits, (rows, `vocabulary`).
    #[must_use]
    pub fn from_logits(logits: &[f32], vocabulary: usize, k: usize, temperature: f32) -> Self {
        let k = k.clamp(1, vocabulary);
        let rows = logits.len() / vocabulary;
        let mut top = Self {
            ids: Vec::with_capacity(rows * k),
            log_p: Vec::with_capacity(rows * k),
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
            if k < vocabulary {
                order.select_nth_unstable_by(k - 1, highest_first);
            }
            let tail = order[k..].iter().map(|&id| f64::from(log_p(id)).exp()).sum::<f64>();
            order[..k].sort_unstable_by(highest_first);
            top.log_tail.push(tail.ln() as f32);
            top.log_p.extend(order[..k].iter().map(|&id| log_p(id)));
            top.ids.extend_from_slice(&order[..k]);
        }
        top
    }

    /// k, the number of tokens of a position.
    #[must_use]
    pub fn k(&self) -> usize {
        self.ids.len() / self.log_tail.len().max(1)
    }

    /// The tokens of some positions.
    #[must_use]
    pub fn gather(&self, positions: &[usize]) -> Self {
        let rows = || positions.iter().map(|&position| self.row(position));
        Self {
            ids: rows().flat_map(|row| row.ids.iter().copied()).collect(),
            log_p: rows().flat_map(|row| row.log_p.iter().copied()).collect(),
            log_tail: rows().map(|row| row.log_tail).collect(),
            temperature: self.temperature,
        }
    }

    pub(crate) fn row(&self, position: usize) -> TopRow<'_> {
        let k = self.k();
        let span = position * k..(position + 1) * k;
        TopRow {
            ids: &self.ids[span.clone()],
            log_p: &self.log_p[span],
            log_tail: self.log_tail[position],
        }
    }

    /// Checks that there are top-k tokens of a `vocabulary` for as many positions at a temperature.
    pub(crate) fn check(
        &self,
        positions: usize,
        vocabulary: usize,
        temperature: f32,
    ) -> Result<()> {
        let k = self.k();
        let fits = self.log_tail.len() == positions
            && self.ids.len() == positions * k
            && self.log_p.len() == self.ids.len()
            && (1..=vocabulary).contains(&k);
        if !fits || (self.temperature - temperature).abs() > f32::EPSILON {
            return Err(Error::internal(format!(
                "{} top-k tokens at temperature {} for {positions} positions at {temperature}",
                self.ids.len(),
                self.temperature
            )));
        }
        check_tokens(&self.ids, vocabulary)
    }
}
