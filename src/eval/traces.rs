//! What would every token of a text be, stopped after each repetition?

use candle_core::Tensor;
use rayon::prelude::*;

use super::windows::{batches, inputs, targets};
use crate::data::EvaluationWindow;
use crate::decode::output;
use crate::error::{Error, Result};
use crate::halting::Traces;
use crate::model::{CausalLm, LoopedTransformer};
use crate::nn::compare_each::compare_and_look;
use crate::nn::head::TeacherHead;
use crate::nn::{Tape, Value};
use crate::observe::Observer;

/// Runs teacher and student over `windows`, every token to `repetitions`, and tells what stopping
/// it earlier would have given: in the order of `windows` once they are sorted by length, longest
/// first. Other tokens are taken to go on: what a token reads of them is of its own repetition.
///
/// # Errors
/// There is no text, the user stopped it, or a device fails.
pub fn trace(
    teacher: &dyn CausalLm,
    student: &LoopedTransformer,
    windows: &[EvaluationWindow],
    repetitions: usize,
    rows: usize,
    observer: &dyn Observer,
    stopped: &dyn Fn() -> bool,
) -> Result<Traces> {
    if windows.is_empty() {
        return Err(Error::input("there is no text to look at: expected 2 tokens or more"));
    }
    let mut traces = Traces::new(repetitions, student.base().width);
    observer.begin("trace", windows.len() as u64, "windows");
    let read = batches(windows, rows).into_iter().try_fold(0, |done, batch| {
        if stopped() {
            return Err(Error::interrupted("stopped while looking at repetitions"));
        }
        add(&mut traces, teacher, student, &batch)?;
        let done = done + batch.len() as u64;
        observer.advance(done, "");
        Ok(done)
    });
    observer.end();
    read.map(|_| traces)
}

fn add(
    traces: &mut Traces,
    teacher: &dyn CausalLm,
    student: &LoopedTransformer,
    batch: &[&EvaluationWindow],
) -> Result<()> {
    let side = teacher_side(teacher, batch)?;
    let ids = inputs(batch, student.frame().device())?;
    let walk = walk(student, &ids, traces.repetitions)?;
    add_walk(traces, student, &side, &walk, &targets(batch))
}

/// What a student goes through.
pub(super) struct Walk {
    /// States before the first repetition and after each, N + 1 of (B, T, D) or (tokens, D).
    pub(super) states: Vec<Tensor>,
    /// Normed states after the coda, what is said after each repetition, N of the same.
    pub(super) said: Vec<Tensor>,
}

/// `student` reads `ids`, (B, T), every token to `repetitions`.
pub(super) fn walk(student: &LoopedTransformer, ids: &Tensor, repetitions: usize) -> Result<Walk> {
    let (tape, frame) = (Tape::off(), student.frame());
    let table = frame.rope(0, ids.dim(1)?);
    let last = |states: Vec<Value>, otherwise: &Value| {
        states.into_iter().next_back().unwrap_or_else(|| otherwise.clone())
    };
    let embedded = frame.embed(&tape, ids)?;
    let start = last(student.prelude(&tape, ids, &table)?, &embedded);
    let (mut states, mut said) = (vec![start.tensor().clone()], Vec::new());
    let mut state = start.clone();
    for repetition in 0..repetitions {
        let before = student.inject(&tape, &state, &start, repetition)?;
        state = last(student.repeat(&tape, &before, repetition, &table)?, &before);
        let end = last(student.coda(&tape, &state, &table)?, &state);
        said.push(frame.normed(&tape, &end)?.tensor().clone());
        states.push(state.tensor().clone());
    }
    Ok(Walk { states, said })
}

/// Adds the tokens of `walk`, which are to say `targets`, beside what `side` says of them.
pub(super) fn add_walk(
    traces: &mut Traces,
    student: &LoopedTransformer,
    side: &TeacherHead,
    walk: &Walk,
    targets: &[u32],
) -> Result<()> {
    let (tokens, repetitions) = (targets.len(), traces.repetitions);
    let first = traces.output.len();
    let empty = crate::halting::Output { top: 0, gap: 0.0, kl: None };
    traces.output.resize(first + tokens * repetitions, empty);
    let mut before: Vec<f32> = Vec::new();
    let outputs = &mut traces.output[first..];
    let mut look = |token: usize, exit: usize, logits: &[f32]| {
        let vocabulary = student.base().vocabulary;
        let found: Vec<_> = logits
            .par_chunks_exact(vocabulary)
            .enumerate()
            .map(|(row, now)| {
                let span = row * vocabulary..(row + 1) * vocabulary;
                output(if exit == 0 { &[] } else { &before[span] }, now)
            })
            .collect();
        for (row, found) in found.into_iter().enumerate() {
            outputs[(token + row) * repetitions + exit] = found;
        }
        before = logits.to_vec();
    };
    let head = student.frame().head();
    let (_, terms) = compare_and_look(side, &walk.said, head, targets, &mut look)?;
    for token in 0..tokens {
        traces.kl.extend(terms.iter().map(|terms| terms.kl[token]));
        traces.nll.extend(terms.iter().map(|terms| terms.cross_entropy[token]));
        traces.agree.extend(terms.iter().map(|terms| terms.agree[token]));
    }
    add_states(traces, &walk.states, tokens)
}

/// Changes, bends and normed states.
fn add_states(traces: &mut Traces, states: &[Tensor], tokens: usize) -> Result<()> {
    let width = traces.width;
    let numbers = |state: &Tensor| Ok::<_, Error>(state.flatten_all()?.to_vec1::<f32>()?);
    let states: Vec<Vec<f32>> = states.iter().map(numbers).collect::<Result<_>>()?;
    for token in 0..tokens {
        let row = |r: usize| &states[r][token * width..(token + 1) * width];
        for r in 1..states.len() {
            let (now, before) = (row(r), row(r - 1));
            let size: f32 = now.iter().map(|x| x * x).sum();
            let scale = 1.0 / (size / width as f32 + 1e-6).sqrt();
            let size = size.sqrt().max(1e-12);
            let step = |now: &[f32], before: &[f32], i: usize| now[i] - before[i];
            let change: f32 = (0..width).map(|i| step(now, before, i).powi(2)).sum();
            let bend = (r > 1).then(|| {
                let earlier = row(r - 2);
                let turned = |i| (step(now, before, i) - step(before, earlier, i)).powi(2);
                (0..width).map(turned).sum::<f32>().sqrt() / size
            });
            traces.change.push(change.sqrt() / size);
            traces.bend.push(bend);
            traces.states.extend(now.iter().map(|x| x * scale));
        }
    }
    Ok(())
}

/// The teacher on some windows.
pub(super) fn teacher_side(
    teacher: &dyn CausalLm,
    batch: &[&EvaluationWindow],
) -> Result<TeacherHead> {
    let (tape, frame) = (Tape::off(), teacher.frame());
    let ids = inputs(batch, frame.device())?;
    let mut states = teacher.states(&tape, &ids, teacher.repetitions())?;
    let last = states.pop().ok_or_else(|| Error::internal("a model without states"))?;
    let hidden: Tensor = frame.normed(&tape, &last)?.tensor().clone();
    Ok(TeacherHead { hidden, weight: frame.head().tensor().clone() })
}
