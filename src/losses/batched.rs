//! Comparison of several students with one teacher, for evaluation.
//!
//! The teacher's logits, most of the cost, are computed once for all students.

use std::ops::Range;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::output::{CHUNK, compare_row, logits_of};
use super::terms::{HeadTerms, HeadWeights, Row, TeacherHead, log_sum_exp};
use crate::autograd::Weight;
use crate::error::{Error, Result};
use crate::kernels::host;
use crate::nn::check_tokens;

/// Evaluation has no gradient.
const NO_LOSS: HeadWeights = HeadWeights { cross_entropy: 0.0, kl: 0.0, temperature: 1.0 };

/// Compares the teacher with the next tokens, and each of `students` with both. Students are normed
/// last states, (B, T, D), under `head`, (V, D); `targets` are B T next tokens. Returns -log p of the
/// next token under the teacher in nats, (B T), and the terms of each student at temperature 1.
///
/// # Errors
/// A target is past a vocabulary, or the vocabularies differ.
pub fn compare_students(
    teacher: &TeacherHead,
    students: &[Tensor],
    head: &Weight,
    targets: &[u32],
) -> Result<(Vec<f32>, Vec<HeadTerms>)> {
    compare_students_with(teacher, students, head, targets, &mut |_, _, _| ())
}

/// As [`compare_students`]; `observe(first token, student, logits)` receives the logits of each
/// student, chunk by chunk, (tokens, V).
///
/// # Errors
/// As [`compare_students`].
pub fn compare_students_with(
    teacher: &TeacherHead,
    students: &[Tensor],
    head: &Weight,
    targets: &[u32],
    observe: &mut dyn FnMut(usize, usize, &[f32]),
) -> Result<(Vec<f32>, Vec<HeadTerms>)> {
    let (vocabulary, teacher_width) = teacher.weight.dims2()?;
    check_tokens(targets, vocabulary)?;
    let teacher_head = teacher.weight.contiguous()?;
    let teacher_hidden = teacher.hidden.reshape(((), teacher_width))?.contiguous()?;
    let head = head.tensor().contiguous()?;
    let (rows, width) = head.dims2()?;
    if rows != vocabulary {
        return Err(Error::internal("teacher and student have different vocabularies"));
    }
    let flat = |x: &Tensor| Ok(x.reshape(((), width))?.contiguous()?);
    let students = students.iter().map(flat).collect::<Result<Vec<_>>>()?;
    let mut cross_entropy = Vec::with_capacity(targets.len());
    let mut terms = vec![HeadTerms::default(); students.len()];
    for start in (0..targets.len()).step_by(CHUNK) {
        let chunk = start..(start + CHUNK).min(targets.len());
        let targets = &targets[chunk.clone()];
        let teacher = logits(&teacher_hidden, &teacher_head, &chunk)?;
        let row_cross_entropy = |(logits, &target): (&[f32], &u32)| {
            host::vectorised(
                #[inline(always)]
                || log_sum_exp(logits, 1.0).1 - logits[target as usize],
            )
        };
        let rows = teacher.par_chunks_exact(vocabulary).zip(targets);
        cross_entropy.par_extend(rows.map(row_cross_entropy));
        for (index, (student, terms)) in students.iter().zip(&mut terms).enumerate() {
            let logits = logits(student, &head, &chunk)?;
            observe(start, index, &logits);
            compare_chunk(logits, &teacher, targets, vocabulary, terms);
        }
    }
    Ok((cross_entropy, terms))
}

/// Adds the comparison of a student's logits, (tokens, V), with the teacher's to `terms`.
fn compare_chunk(
    mut student: Vec<f32>,
    teacher: &[f32],
    targets: &[u32],
    vocabulary: usize,
    terms: &mut HeadTerms,
) {
    let rows = student
        .par_chunks_exact_mut(vocabulary)
        .zip(teacher.par_chunks_exact(vocabulary))
        .zip(targets);
    let rows: Vec<Row> = rows
        .map(|((student, teacher), &target)| {
            host::vectorised(
                #[inline(always)]
                || compare_row(student, Some(teacher), target as usize, NO_LOSS, 0.0),
            )
        })
        .collect();
    terms.cross_entropy.extend(rows.iter().map(|row| row.cross_entropy));
    terms.kl.extend(rows.iter().map(|row| row.kl));
    terms.agree.extend(rows.iter().map(|row| row.agree));
}

/// Logits of some rows of `hidden` (tokens, D) under `head` (V, D), on the CPU.
fn logits(hidden: &Tensor, head: &Tensor, rows: &Range<usize>) -> Result<Vec<f32>> {
    if host::is_host(hidden) && host::is_host(head) {
        return logits_of(hidden, head, rows);
    }
    let logits = hidden.narrow(0, rows.start, rows.len())?.matmul(&head.t()?)?;
    Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
