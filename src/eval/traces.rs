//! Traces: the output of every token of a text if it stopped after each repetition.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::windows::{batches, inputs, targets};
use crate::autograd::{Tape, Value};
use crate::context::Context;
use crate::data::EvaluationWindow;
use crate::decode::output_signal;
use crate::error::{Error, Result};
use crate::halting::{ActMean, Gate, STATE_EPS, Traces};
use crate::losses::{TeacherHead, compare_students_with};
use crate::model::{CausalLm, LoopedTransformer};

/// Runs teacher and student over `windows`, every token to `repetitions`, and records what stopping
/// it earlier gives, in the order of `windows` sorted by length, longest first. A token attends to
/// the states of other tokens at its own repetition. With the gate of a policy that averages states,
/// the output of a token that stops is read from the mean of its states.
///
/// # Errors
/// There is no text, the user stopped it, or a device fails.
pub fn trace(
    teacher: &dyn CausalLm,
    student: &LoopedTransformer,
    windows: &[EvaluationWindow],
    repetitions: usize,
    averaged_by: Option<&Gate>,
    rows: usize,
    context: &Context,
) -> Result<Traces> {
    if windows.is_empty() {
        return Err(Error::input("there is no text to trace: expected 2 tokens or more"));
    }
    let mut traces = Traces::new(repetitions, student.base().width);
    context.begin("trace", windows.len() as u64, "windows");
    let read = batches(windows, rows).into_iter().try_fold(0, |done, batch| {
        context.check_cancelled("while repetitions were traced")?;
        add(&mut traces, teacher, student, averaged_by, &batch)?;
        let done = done + batch.len() as u64;
        context.advance(done, "");
        Ok(done)
    });
    context.end();
    read.map(|_| traces)
}

fn add(
    traces: &mut Traces,
    teacher: &dyn CausalLm,
    student: &LoopedTransformer,
    averaged_by: Option<&Gate>,
    batch: &[&EvaluationWindow],
) -> Result<()> {
    let side = teacher_side(teacher, batch)?;
    let ids = inputs(batch, student.embedding_and_head().device())?;
    let walk = walk(student, &ids, traces.repetitions, averaged_by)?;
    add_walk(traces, student, &side, &walk, &targets(batch))
}

/// The states and outputs of a student, by repetition.
pub(super) struct Walk {
    /// States before the first repetition and after each, N + 1 of (B, T, D) or (tokens, D).
    pub(super) states: Vec<Tensor>,
    /// Normed states after the coda, for tokens that stop after each repetition, N of (B, T, D) or
    /// (tokens, D).
    pub(super) normed: Vec<Tensor>,
}

/// Runs `student` on `ids`, (B, T), every token to `repetitions`. With the gate of a policy that
/// averages states, outputs are read from their mean.
pub(super) fn walk(
    student: &LoopedTransformer,
    ids: &Tensor,
    repetitions: usize,
    averaged_by: Option<&Gate>,
) -> Result<Walk> {
    let (tape, embedding_and_head) = (Tape::off(), student.embedding_and_head());
    let table = embedding_and_head.rope(0, ids.dim(1)?);
    let last = |states: Vec<Value>, otherwise: &Value| {
        states.into_iter().next_back().unwrap_or_else(|| otherwise.clone())
    };
    let embedded = embedding_and_head.embed(&tape, ids)?;
    let start = last(student.prelude(&tape, ids, &table)?, &embedded);
    let (mut states, mut normed) = (vec![start.tensor().clone()], Vec::new());
    let mut state = start.clone();
    let mut averages = averaged_by.map(|gate| Averages::new(gate, start.tensor())).transpose()?;
    for repetition in 0..repetitions {
        let before = student.inject(&tape, &state, &start, repetition)?;
        let after = last(student.repeat(&tape, &before, repetition, &table)?, &before);
        let read = match &mut averages {
            Some(averages) => {
                Value::constant(averages.stopped(state.tensor(), after.tensor(), repetition + 1)?)
            }
            None => after.clone(),
        };
        state = after;
        let end = last(student.coda(&tape, &read, &table)?, &read);
        normed.push(embedding_and_head.normed(&tape, &end)?.tensor().clone());
        states.push(state.tensor().clone());
    }
    Ok(Walk { states, normed })
}

/// Adds the tokens of `walk`, with their `targets`, compared with the teacher's outputs in `side`.
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
    let mut record = |token: usize, exit: usize, logits: &[f32]| {
        let vocabulary = student.base().vocabulary;
        let rows: Vec<_> = logits
            .par_chunks_exact(vocabulary)
            .enumerate()
            .map(|(row, now)| {
                let span = row * vocabulary..(row + 1) * vocabulary;
                output_signal(if exit == 0 { &[] } else { &before[span] }, now)
            })
            .collect();
        for (row, output) in rows.into_iter().enumerate() {
            outputs[(token + row) * repetitions + exit] = output;
        }
        before = logits.to_vec();
    };
    let head = student.embedding_and_head().head();
    let (_, terms) = compare_students_with(side, &walk.normed, head, targets, &mut record)?;
    for token in 0..tokens {
        traces.kl.extend(terms.iter().map(|terms| terms.kl[token]));
        traces.nll.extend(terms.iter().map(|terms| terms.cross_entropy[token]));
        traces.agree.extend(terms.iter().map(|terms| terms.agree[token]));
    }
    add_states(traces, &walk.states, tokens)
}

/// Running means of the states of tokens, for policies that average them.
struct Averages<'a> {
    gate: &'a Gate,
    means: Vec<ActMean>,
}

impl<'a> Averages<'a> {
    /// Means of tokens that begin with `start`, (B, T, D).
    fn new(gate: &'a Gate, start: &Tensor) -> Result<Self> {
        let (batch, tokens, width) = start.dims3()?;
        Ok(Self { gate, means: vec![ActMean::new(width); batch * tokens] })
    }

    /// The states with which tokens would stop at `repetition`, counted from 1, when it takes them
    /// from `before` to `after`, (B, T, D) each. The means then include `after`.
    fn stopped(&mut self, before: &Tensor, after: &Tensor, repetition: usize) -> Result<Tensor> {
        let (old, new) = (elements(before)?, elements(after)?);
        let width = new.len() / self.means.len().max(1);
        let mut stopped = Vec::with_capacity(new.len());
        let rows = old.chunks_exact(width).zip(new.chunks_exact(width));
        for (mean, (old, new)) in self.means.iter_mut().zip(rows) {
            stopped.extend(mean.stop_with(new));
            mean.add(new, self.gate.logit(new, change(old, new), repetition));
        }
        let stopped = Tensor::from_vec(stopped, after.shape(), &Device::Cpu)?;
        Ok(stopped.to_device(after.device())?.to_dtype(after.dtype())?)
    }
}

/// The elements of a state, (B * T * D).
fn elements(state: &Tensor) -> Result<Vec<f32>> {
    Ok(state.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
}

fn size(state: &[f32]) -> f32 {
    state.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12)
}

/// Relative change of a state, as [`Signal::change`](crate::halting::Signal::change).
fn change(before: &[f32], now: &[f32]) -> f32 {
    let squares: f32 = now.iter().zip(before).map(|(now, before)| (now - before).powi(2)).sum();
    squares.sqrt() / size(now)
}

/// Adds the changes, second differences and normed states of tokens.
fn add_states(traces: &mut Traces, states: &[Tensor], tokens: usize) -> Result<()> {
    let width = traces.width;
    let states: Vec<Vec<f32>> = states.iter().map(elements).collect::<Result<_>>()?;
    for token in 0..tokens {
        let row = |r: usize| &states[r][token * width..(token + 1) * width];
        for r in 1..states.len() {
            let (now, before) = (row(r), row(r - 1));
            let size = size(now);
            let scale = 1.0 / (size * size / width as f32 + STATE_EPS).sqrt();
            let step = |now: &[f32], before: &[f32], i: usize| now[i] - before[i];
            let second_difference = (r > 1).then(|| {
                let earlier = row(r - 2);
                let turned = |i| (step(now, before, i) - step(before, earlier, i)).powi(2);
                (0..width).map(turned).sum::<f32>().sqrt() / size
            });
            traces.change.push(change(before, now));
            traces.second_difference.push(second_difference);
            traces.states.extend(now.iter().map(|x| x * scale));
        }
    }
    Ok(())
}

/// The last states of the teacher on some windows, with its head.
pub(super) fn teacher_side(
    teacher: &dyn CausalLm,
    batch: &[&EvaluationWindow],
) -> Result<TeacherHead> {
    let (tape, embedding_and_head) = (Tape::off(), teacher.embedding_and_head());
    let ids = inputs(batch, embedding_and_head.device())?;
    let mut states = teacher.states(&tape, &ids, teacher.repetitions())?;
    let last = states.pop().ok_or_else(|| Error::internal("a model without states"))?;
    let hidden: Tensor = embedding_and_head.normed(&tape, &last)?.tensor().clone();
    Ok(TeacherHead { hidden, weight: embedding_and_head.head().tensor().clone() })
}
