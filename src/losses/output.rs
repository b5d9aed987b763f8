//! The output loss: cross entropy with the next token, and KL from the teacher's distribution.
//!
//! Logits exist for a chunk of tokens at a time: each chunk is computed, compared and overwritten by
//! its gradient before the next one.

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
use crate::nn::check_tokens;

/// Tokens whose logits are in memory at once: enough to amortise packing the head for the product.
pub(crate) const CHUNK: usize = 256;

/// Compares softmax(hidden head^T) with the next tokens and the teacher, and records the gradient
/// of `weights.cross_entropy * mean CE + weights.kl * temperature^2 * mean KL`. `hidden` is the
/// normed last state, (B, T, D), `head` is (V, D), and `targets` are B T tokens. Hinton et al. 2015.
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

/// As [`compare`], with the loss of each token multiplied by its weight in the gradient, if there are
/// weights, (B T). The returned terms are not weighted.
///
/// # Errors
/// As [`compare`], or there are not as many weights as targets.
pub fn compare_weighted(
    tape: &Tape,
    hidden: &Value,
    head: &Weight,
    teacher: Option<&TeacherOutput>,
    (targets, token_weights): (&[u32], Option<&[f32]>),
    weights: HeadWeights,
) -> Result<HeadTerms> {
    if token_weights.is_some_and(|weights| weights.len() != targets.len()) {
        return Err(Error::internal("the number of token weights is not that of the targets"));
    }
    let (vocabulary, width) = head.tensor().dims2()?;
    check_tokens(targets, vocabulary)?;
    if let Some(TeacherOutput::Top(top)) = teacher {
        top.check(targets.len(), vocabulary, weights.temperature)?;
    }
    if !tape.has_cpu_kernel(hidden.tensor()) {
        let targets = (targets, token_weights);
        return composed::compare(tape, hidden, head, teacher, targets, weights);
    }
    let requires_grad = tape.requires_grad(&[hidden], &[head]);
    let mut comparison = Comparison {
        targets,
        token_weights,
        weights,
        vocabulary,
        d_hidden: vec![0.0; if requires_grad { targets.len() * width } else { 0 }],
        head_requires_grad: requires_grad && head.trained_name().is_some(),
        d_head: None,
        terms: HeadTerms::default(),
    };
    let flat = hidden.tensor().reshape(((), width))?.contiguous()?;
    let teacher = teacher.map(TeacherRows::new).transpose()?;
    for start in (0..targets.len()).step_by(CHUNK) {
        let rows = start..(start + CHUNK).min(targets.len());
        let mut logits = logits_of(&flat, head.tensor(), &rows)?;
        match &teacher {
            None => comparison.compare_rows(rows.clone(), &mut logits, &[]),
            Some(TeacherRows::Head(hidden, weight)) => {
                comparison.compare_rows(
                    rows.clone(),
                    &mut logits,
                    &logits_of(hidden, weight, &rows)?,
                );
            }
            Some(TeacherRows::Logits(all)) => {
                let all = Host::new(all)?;
                let span = rows.start * vocabulary..rows.end * vocabulary;
                comparison.compare_rows(rows.clone(), &mut logits, &all[span]);
            }
            Some(TeacherRows::Top(top)) => {
                comparison.compare_rows_with_top(rows.clone(), &mut logits, top);
            }
        }
        if requires_grad {
            comparison.backward(rows, &logits, &flat, head.tensor())?;
        }
    }
    if requires_grad {
        tape.push_loss(hidden, host::tensor(comparison.d_hidden, hidden.tensor().shape())?);
        if let Some(d_head) = comparison.d_head {
            tape.push_weight_loss(head, host::tensor(d_head, head.tensor().shape())?);
        }
    }
    Ok(comparison.terms)
}

/// The teacher's output as contiguous rows.
enum TeacherRows<'a> {
    Head(Tensor, &'a Tensor),
    Logits(Tensor),
    Top(&'a TopTokens),
}

impl<'a> TeacherRows<'a> {
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

struct Comparison<'a> {
    targets: &'a [u32],
    token_weights: Option<&'a [f32]>,
    weights: HeadWeights,
    vocabulary: usize,
    d_hidden: Vec<f32>,
    head_requires_grad: bool,
    d_head: Option<Vec<f32>>,
    terms: HeadTerms,
}

impl<'a> Comparison<'a> {
    /// Replaces each row of logits by its gradient and records its terms; `teacher` has logits of the
    /// same rows, or is empty.
    fn compare_rows(&mut self, rows: std::ops::Range<usize>, logits: &mut [f32], teacher: &[f32]) {
        let scale = self.scale(rows.start);
        let (weights, vocabulary) = (self.weights, self.vocabulary);
        let rows: Vec<Row> = logits
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
        self.record(&rows, !teacher.is_empty());
    }

    /// As [`Self::compare_rows`], with the top-k tokens of the teacher.
    fn compare_rows_with_top(
        &mut self,
        rows: std::ops::Range<usize>,
        logits: &mut [f32],
        top: &TopTokens,
    ) {
        let (weights, start) = (self.weights, rows.start);
        let scale = self.scale(start);
        let rows: Vec<Row> = logits
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
        self.record(&rows, true);
    }

    /// The factor of the gradient of each row, from row `start` on.
    fn scale(&self, start: usize) -> impl Fn(usize) -> f32 + use<'a> {
        let (share, weights) = (1.0 / self.targets.len() as f32, self.token_weights);
        move |index| weights.map_or(share, |weights| share * weights[start + index])
    }

    fn record(&mut self, rows: &[Row], has_teacher: bool) {
        for row in rows {
            self.terms.cross_entropy.push(row.cross_entropy);
            if has_teacher {
                self.terms.kl.push(row.kl);
                self.terms.agree.push(row.agree);
            }
        }
    }

    /// Adds the gradients of the states and of the head, from those of the logits.
    fn backward(
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
        if self.head_requires_grad {
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

/// Replaces a row of logits by its gradient, and returns its terms.
#[inline(always)]
pub(crate) fn compare_row(
    logits: &mut [f32],
    teacher: Option<&[f32]>,
    target: usize,
    weights: HeadWeights,
    scale: f32,
) -> Row {
    let (max, log_sum) = log_sum_exp(logits, 1.0);
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
    let (_, tempered_log_sum) = if (temperature - 1.0).abs() < f32::EPSILON {
        (max, log_sum)
    } else {
        log_sum_exp(logits, temperature)
    };
    let (teacher_max, teacher_log_sum) = log_sum_exp(teacher, temperature);
    let agree = first_index(logits, max) == first_index(teacher, teacher_max);
    // d/dz tau^2 KL(p_t || p_s) = tau (p_s - p_t)
    let kl_scale = weights.kl * scale * temperature;
    let kl = host::map_and_sum(
        logits,
        teacher,
        #[inline(always)]
        |logit, teacher| {
            let student_log = logit * inverse - tempered_log_sum;
            let teacher_log = teacher * inverse - teacher_log_sum;
            let teacher_p = host::exp(teacher_log);
            let d_kl = kl_scale * (host::exp(student_log) - teacher_p);
            (ce * host::exp(logit - log_sum) + d_kl, teacher_p * (teacher_log - student_log))
        },
    );
    logits[target] -= ce;
    Row { cross_entropy, kl: kl.max(0.0), agree }
}

#[inline(always)]
fn first_index(values: &[f32], max: f32) -> usize {
    values.iter().position(|&value| value >= max).unwrap_or(0)
}
