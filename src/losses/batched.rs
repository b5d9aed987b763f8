//! How far are several students from one teacher?
//!
//! For evaluation: the teacher's logits, most of the cost, are made once for all of them.

use std::ops::Range;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::output::{CHUNK, compare_row, logits_of};
use super::terms::{HeadTerms, HeadWeights, Row, TeacherHead, log_sum_exp};
use crate::autograd::Weight;
use crate::error::{Error, Result};
use crate::kernels::host;
use crate::nn::embedding::check_tokens;

/// Nothing is trained here.
const NO_LOSS: HeadWeights = HeadWeights { cross_entropy: 0.0, kl: 0.0, temperature: 1.0 };

/// Compares the teacher with the next tokens, and every one of `students`, normed last states
/// (B, T, D) under `head` (V, D), with both. Gives -log p of the next token under the teacher in
/// nats, and the terms of each student at temperature 1.
///
/// # Errors
/// A target is past a vocabulary, or the vocabularies differ.
pub fn compare_each(
    teacher: &TeacherHead,
    students: &[Tensor],
    head: &Weight,
    targets: &[u32],
) -> Result<(Vec<f32>, Vec<HeadTerms>)> {
    compare_and_look(teacher, students, head, targets, &mut |_, _, _| ())
}

/// As [`compare_each`]; `look` is given the logits of some tokens under every student in turn,
/// (tokens, V): the first token, the number of the student, and they.
///
/// # Errors
/// As [`compare_each`].
pub fn compare_and_look(
    teacher: &TeacherHead,
    students: &[Tensor],
    head: &Weight,
    targets: &[u32],
    look: &mut dyn FnMut(usize, usize, &[f32]),
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
        let rows = start..(start + CHUNK).min(targets.len());
        let targets = &targets[rows.clone()];
        let teacher = logits(&teacher_hidden, &teacher_head, &rows)?;
        let of_row = |(logits, &target): (&[f32], &u32)| {
            host::vectorised(
                #[inline(always)]
                || log_sum_exp(logits, 1.0).1 - logits[target as usize],
            )
        };
        cross_entropy.par_extend(teacher.par_chunks_exact(vocabulary).zip(targets).map(of_row));
        for (index, (student, terms)) in students.iter().zip(&mut terms).enumerate() {
            let logits = logits(student, &head, &rows)?;
            look(start, index, &logits);
            compare_chunk(logits, &teacher, targets, vocabulary, terms);
        }
    }
    Ok((cross_entropy, terms))
}

/// Adds what a student's logits (tokens, V) are beside the teacher's.
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
    let found: Vec<Row> = rows
        .map(|((student, teacher), &target)| {
            host::vectorised(
                #[inline(always)]
                || compare_row(student, Some(teacher), target as usize, NO_LOSS, 0.0),
            )
        })
        .collect();
    terms.cross_entropy.extend(found.iter().map(|row| row.cross_entropy));
    terms.kl.extend(found.iter().map(|row| row.kl));
    terms.agree.extend(found.iter().map(|row| row.agree));
}

/// Logits of some rows of `hidden` (tokens, D) under `head` (V, D), on the CPU.
fn logits(hidden: &Tensor, head: &Tensor, rows: &Range<usize>) -> Result<Vec<f32>> {
    if host::is_host(hidden) && host::is_host(head) {
        return logits_of(hidden, head, rows);
    }
    let logits = hidden.narrow(0, rows.start, rows.len())?.matmul(&head.t()?)?;
    Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
