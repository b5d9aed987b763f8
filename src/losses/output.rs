//! How far is a distribution over the vocabulary from the next token, and from the teacher's?
//!
//! Logits exist for a few tokens at a time only: each chunk is multiplied, compared, and turned
//! into its gradient before the next one is touched.

use candle_core::Tensor;
use rayon::prelude::*;

use super::composed;
use super::terms::{
    HeadTerms, HeadWeights, Row, TeacherHead, TeacherOutput, TopTokens, log_sum_exp,
};
use super::top_k::compare_with_top;
use crate::autograd::{Tape, Value, Weight};
use crate::error::{Error, Result};
use crate::kernels::gemm::{Into, Matrix, Threads, new_product, product};
use crate::kernels::host::{self, Host};
use crate::nn::embedding::check_tokens;

/// Tokens whose logits are alive at once: enough to rearrange the head for, few enough to hold.
pub(crate) const CHUNK: usize = 256;

/// Compares softmax(hidden head^T) with the next tokens and the teacher, and records the gradient
/// of `weights.cross_entropy * mean CE + weights.kl * temperature^2 * mean KL`.
/// `hidden` is normed, (B, T, D); `head` (V, D); `targets` B T of them.
///
/// # Errors
/// A target is past the vocabulary, or the shapes do not fit.
pub fn compare(
    tape: &Tape,
    hidden: &Value,
    head: &Weight,
    teacher: Option<&TeacherOutput>,
    targets: &[u32],
    weights: HeadWeights,
) -> Result<HeadTerms> {
    compare_weighted(tape, hidden, head, teacher, (targets, None), weights)
}

/// The same where each token has a weight of its own, B T of them, in the gradient: that of the mean
/// over tokens of their weight times what they lose. What was found is not weighed.
///
/// # Errors
/// As [`compare`], or there are not as many weights as targets.
pub fn compare_weighted(
    tape: &Tape,
    hidden: &Value,
    head: &Weight,
    teacher: Option<&TeacherOutput>,
    (targets, of_tokens): (&[u32], Option<&[f32]>),
    weights: HeadWeights,
) -> Result<HeadTerms> {
    if of_tokens.is_some_and(|of_tokens| of_tokens.len() != targets.len()) {
        return Err(Error::internal("some tokens that are read out have no weight"));
    }
    let (vocabulary, width) = head.tensor().dims2()?;
    check_tokens(targets, vocabulary)?;
    if let Some(TeacherOutput::Top(top)) = teacher {
        top.check(targets.len(), vocabulary, weights.temperature)?;
    }
    if !tape.has_cpu_kernel(hidden.tensor()) {
        let targets = (targets, of_tokens);
        return composed::compare(tape, hidden, head, teacher, targets, weights);
    }
    let needs = tape.requires_grad(&[hidden], &[head]);
    let mut job = Job {
        targets,
        of_tokens,
        weights,
        vocabulary,
        d_hidden: vec![0.0; if needs { targets.len() * width } else { 0 }],
        learns_head: needs && head.trained_name().is_some(),
        d_head: None,
        terms: HeadTerms::default(),
    };
    let flat = hidden.tensor().reshape(((), width))?.contiguous()?;
    let teacher = teacher.map(Side::new).transpose()?;
    for start in (0..targets.len()).step_by(CHUNK) {
        let rows = start..(start + CHUNK).min(targets.len());
        let mut logits = logits_of(&flat, head.tensor(), &rows)?;
        match &teacher {
            None => job.compare_rows(rows.clone(), &mut logits, &[]),
            Some(Side::Head(hidden, weight)) => {
                job.compare_rows(rows.clone(), &mut logits, &logits_of(hidden, weight, &rows)?);
            }
            Some(Side::Logits(all)) => {
                let all = Host::new(all)?;
                let span = rows.start * vocabulary..rows.end * vocabulary;
                job.compare_rows(rows.clone(), &mut logits, &all[span]);
            }
            Some(Side::Top(top)) => job.compare_rows_with_top(rows.clone(), &mut logits, top),
        }
        if needs {
            job.back(rows, &logits, &flat, head.tensor())?;
        }
    }
    if needs {
        tape.push_loss(hidden, host::tensor(job.d_hidden, hidden.tensor().shape())?);
        if let Some(d_head) = job.d_head {
            tape.push_weight_loss(head, host::tensor(d_head, head.tensor().shape())?);
        }
    }
    Ok(job.terms)
}

/// The teacher's side, row by row.
enum Side<'a> {
    Head(Tensor, &'a Tensor),
    Logits(Tensor),
    Top(&'a TopTokens),
}

impl<'a> Side<'a> {
    fn new(teacher: &'a TeacherOutput) -> Result<Self> {
        Ok(match teacher {
            TeacherOutput::Head(TeacherHead { hidden, weight }) => {
                Self::Head(hidden.reshape(((), weight.dim(1)?))?.contiguous()?, weight)
            }
            TeacherOutput::Logits(logits) => Self::Logits(logits.contiguous()?),
            TeacherOutput::Top(top) => Self::Top(top),
        })
    }
}

/// Logits of some rows of `hidden` (tokens, D) under `head` (V, D).
pub(crate) fn logits_of(
    hidden: &Tensor,
    head: &Tensor,
    rows: &std::ops::Range<usize>,
) -> Result<Vec<f32>> {
    let (vocabulary, width) = head.dims2()?;
    let (hidden, head) = (Host::new(hidden)?, Host::new(head)?);
    let x = Matrix::new(&hidden[rows.start * width..rows.end * width], rows.len(), width);
    let head = Matrix::new(&head, vocabulary, width).transposed();
    Ok(new_product(x, head, Threads::All))
}

struct Job<'a> {
    targets: &'a [u32],
    of_tokens: Option<&'a [f32]>,
    weights: HeadWeights,
    vocabulary: usize,
    d_hidden: Vec<f32>,
    learns_head: bool,
    d_head: Option<Vec<f32>>,
    terms: HeadTerms,
}

impl<'a> Job<'a> {
    /// Turns each row of logits into its gradient and notes what was found.
    fn compare_rows(&mut self, rows: std::ops::Range<usize>, logits: &mut [f32], teacher: &[f32]) {
        let scale = self.scale(rows.start);
        let (weights, vocabulary) = (self.weights, self.vocabulary);
        let found: Vec<Row> = logits
            .par_chunks_exact_mut(vocabulary)
            .zip(&self.targets[rows])
            .enumerate()
            .map(|(index, (logits, &target))| {
                let teacher = teacher.get(index * vocabulary..(index + 1) * vocabulary);
                host::vectorised(
                    #[inline(always)]
                    || compare_row(logits, teacher, target as usize, weights, scale(index)),
                )
            })
            .collect();
        self.note(&found, !teacher.is_empty());
    }

    /// The same, beside the likeliest tokens of the teacher.
    fn compare_rows_with_top(
        &mut self,
        rows: std::ops::Range<usize>,
        logits: &mut [f32],
        top: &TopTokens,
    ) {
        let (weights, start) = (self.weights, rows.start);
        let scale = self.scale(start);
        let found: Vec<Row> = logits
            .par_chunks_exact_mut(self.vocabulary)
            .zip(&self.targets[rows])
            .enumerate()
            .map(|(index, (logits, &target))| {
                let top = top.row(start + index);
                host::vectorised(
                    #[inline(always)]
                    || compare_with_top(logits, top, target as usize, weights, scale(index)),
                )
            })
            .collect();
        self.note(&found, true);
    }

    /// What the gradient of each row is multiplied by, from row `start` on.
    fn scale(&self, start: usize) -> impl Fn(usize) -> f32 + use<'a> {
        let (share, of_tokens) = (1.0 / self.targets.len() as f32, self.of_tokens);
        move |index| of_tokens.map_or(share, |of_tokens| share * of_tokens[start + index])
    }

    fn note(&mut self, found: &[Row], with_teacher: bool) {
        for row in found {
            self.terms.cross_entropy.push(row.cross_entropy);
            if with_teacher {
                self.terms.kl.push(row.kl);
                self.terms.agree.push(row.agree);
            }
        }
    }

    /// Gradients of logits to gradients of states and head.
    fn back(
        &mut self,
        rows: std::ops::Range<usize>,
        d_logits: &[f32],
        hidden: &Tensor,
        head: &Tensor,
    ) -> Result<()> {
        let (vocabulary, width) = head.dims2()?;
        let (hidden, head) = (Host::new(hidden)?, Host::new(head)?);
        let d_logits = Matrix::new(d_logits, rows.len(), vocabulary);
        let d_hidden = &mut self.d_hidden[rows.start * width..rows.end * width];
        let head = Matrix::new(&head, vocabulary, width);
        product(d_hidden, Into::Replace, 1.0, d_logits, head, Threads::All);
        if self.learns_head {
            let x = Matrix::new(&hidden[rows.start * width..rows.end * width], rows.len(), width);
            let d_logits = d_logits.transposed();
            match &mut self.d_head {
                Some(sum) => product(sum, Into::Add, 1.0, d_logits, x, Threads::All),
                first => *first = Some(new_product(d_logits, x, Threads::All)),
            }
        }
        Ok(())
    }
}

#[inline(always)]
pub(crate) fn compare_row(
    logits: &mut [f32],
    teacher: Option<&[f32]>,
    target: usize,
    weights: HeadWeights,
    scale: f32,
) -> Row {
    let (highest, log_sum) = log_sum_exp(logits, 1.0);
    let cross_entropy = log_sum - logits[target];
    let ce = weights.cross_entropy * scale;
    let Some(teacher) = teacher else {
        for logit in logits.iter_mut() {
            *logit = ce * host::exp(*logit - log_sum);
        }
        logits[target] -= ce;
        return Row { cross_entropy, kl: 0.0, agree: false };
    };
    let temperature = weights.temperature;
    let inverse = 1.0 / temperature;
    let (_, log_sum_cold) = if (temperature - 1.0).abs() < f32::EPSILON {
        (highest, log_sum)
    } else {
        log_sum_exp(logits, temperature)
    };
    let (teacher_highest, teacher_log_sum) = log_sum_exp(teacher, temperature);
    let agree = first_at(logits, highest) == first_at(teacher, teacher_highest);
    // d/dz tau^2 KL(p_t || p_s) = tau (p_s - p_t)
    let kl_scale = weights.kl * scale * temperature;
    let kl = host::map_and_sum(
        logits,
        teacher,
        #[inline(always)]
        |logit, teacher| {
            let student_log = logit * inverse - log_sum_cold;
            let teacher_log = teacher * inverse - teacher_log_sum;
            let teacher_p = host::exp(teacher_log);
            let towards = kl_scale * (host::exp(student_log) - teacher_p);
            (ce * host::exp(logit - log_sum) + towards, teacher_p * (teacher_log - student_log))
        },
    );
    logits[target] -= ce;
    Row { cross_entropy, kl: kl.max(0.0), agree }
}

#[inline(always)]
fn first_at(values: &[f32], highest: f32) -> usize {
    values.iter().position(|&value| value >= highest).unwrap_or(0)
}
