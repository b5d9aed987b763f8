//! What would every token of a text be, stopped after each repetition?

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::windows::{batches, inputs, targets};
use crate::autograd::{Tape, Value};
use crate::data::EvaluationWindow;
use crate::decode::output;
use crate::error::{Error, Result};
use crate::halting::act::Mean;
use crate::halting::gate::STATE_EPS;
use crate::halting::{Gate, Traces};
use crate::losses::batched::compare_and_look;
use crate::losses::terms::TeacherHead;
use crate::model::{CausalLm, LoopedTransformer};
use crate::observe::Observer;

/// Runs teacher and student over `windows`, every token to `repetitions`, and tells what stopping
/// it earlier would have given: in the order of `windows` once they are sorted by length, longest
/// first. Other tokens are taken to go on: what a token reads of them is of its own repetition.
/// With the gate of a policy that averages states, a token that stops says what their mean says.
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
        add(&mut traces, teacher, student, averaged_by, &batch)?;
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
    averaged_by: Option<&Gate>,
    batch: &[&EvaluationWindow],
) -> Result<()> {
    let side = teacher_side(teacher, batch)?;
    let ids = inputs(batch, student.embedding_and_head().device())?;
    let walk = walk(student, &ids, traces.repetitions, averaged_by)?;
    add_walk(traces, student, &side, &walk, &targets(batch))
}

/// What a student goes through.
pub(super) struct Walk {
    /// States before the first repetition and after each, N + 1 of (B, T, D) or (tokens, D).
    pub(super) states: Vec<Tensor>,
    /// Normed states after the coda, what is said by tokens that stop after each repetition, N of the
    /// same.
    pub(super) said: Vec<Tensor>,
}

/// `student` reads `ids`, (B, T), every token to `repetitions`. With the gate of a policy that averages
/// states, what is said comes from their mean.
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
    let (mut states, mut said) = (vec![start.tensor().clone()], Vec::new());
    let mut state = start.clone();
    let mut averages = averaged_by.map(|gate| Averages::new(gate, start.tensor())).transpose()?;
    for repetition in 0..repetitions {
        let before = student.inject(&tape, &state, &start, repetition)?;
        let after = last(student.repeat(&tape, &before, repetition, &table)?, &before);
        let read = match &mut averages {
            Some(by) => {
                Value::constant(by.stopped(state.tensor(), after.tensor(), repetition + 1)?)
            }
            None => after.clone(),
        };
        state = after;
        let end = last(student.coda(&tape, &read, &table)?, &read);
        said.push(embedding_and_head.normed(&tape, &end)?.tensor().clone());
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
    let head = student.embedding_and_head().head();
    let (_, terms) = compare_and_look(side, &walk.said, head, targets, &mut look)?;
    for token in 0..tokens {
        traces.kl.extend(terms.iter().map(|terms| terms.kl[token]));
        traces.nll.extend(terms.iter().map(|terms| terms.cross_entropy[token]));
        traces.agree.extend(terms.iter().map(|terms| terms.agree[token]));
    }
    add_states(traces, &walk.states, tokens)
}

/// What tokens would be that stop at each repetition, were their states averaged.
struct Averages<'a> {
    gate: &'a Gate,
    means: Vec<Mean>,
}

impl<'a> Averages<'a> {
    /// Of tokens that begin with `start`, (B, T, D).
    fn new(gate: &'a Gate, start: &Tensor) -> Result<Self> {
        let (batch, tokens, width) = start.dims3()?;
        Ok(Self { gate, means: vec![Mean::new(width); batch * tokens] })
    }

    /// The states with which tokens would stop at `repetition`, from 1, that were at `before` and
    /// are at `after`, (B, T, D) each; they go on.
    fn stopped(&mut self, before: &Tensor, after: &Tensor, repetition: usize) -> Result<Tensor> {
        let (old, new) = (numbers(before)?, numbers(after)?);
        let width = new.len() / self.means.len().max(1);
        let mut stopped = Vec::with_capacity(new.len());
        let rows = old.chunks_exact(width).zip(new.chunks_exact(width));
        for (mean, (old, new)) in self.means.iter_mut().zip(rows) {
            stopped.extend(mean.stopped(new));
            mean.goes_on(new, self.gate.logit(new, change(old, new), repetition));
        }
        let stopped = Tensor::from_vec(stopped, after.shape(), &Device::Cpu)?;
        Ok(stopped.to_device(after.device())?.to_dtype(after.dtype())?)
    }
}

/// A state's numbers, (B * T * D).
fn numbers(state: &Tensor) -> Result<Vec<f32>> {
    Ok(state.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
}

fn size(state: &[f32]) -> f32 {
    state.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12)
}

/// As [`Signal::change`](crate::halting::Signal::change).
fn change(before: &[f32], now: &[f32]) -> f32 {
    let squares: f32 = now.iter().zip(before).map(|(now, before)| (now - before).powi(2)).sum();
    squares.sqrt() / size(now)
}

/// Changes, bends and normed states.
fn add_states(traces: &mut Traces, states: &[Tensor], tokens: usize) -> Result<()> {
    let width = traces.width;
    let states: Vec<Vec<f32>> = states.iter().map(numbers).collect::<Result<_>>()?;
    for token in 0..tokens {
        let row = |r: usize| &states[r][token * width..(token + 1) * width];
        for r in 1..states.len() {
            let (now, before) = (row(r), row(r - 1));
            let size = size(now);
            let scale = 1.0 / (size * size / width as f32 + STATE_EPS).sqrt();
            let step = |now: &[f32], before: &[f32], i: usize| now[i] - before[i];
            let bend = (r > 1).then(|| {
                let earlier = row(r - 2);
                let turned = |i| (step(now, before, i) - step(before, earlier, i)).powi(2);
                (0..width).map(turned).sum::<f32>().sqrt() / size
            });
            traces.change.push(change(before, now));
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
    let (tape, embedding_and_head) = (Tape::off(), teacher.embedding_and_head());
    let ids = inputs(batch, embedding_and_head.device())?;
    let mut states = teacher.states(&tape, &ids, teacher.repetitions())?;
    let last = states.pop().ok_or_else(|| Error::internal("a model without states"))?;
    let hidden: Tensor = embedding_and_head.normed(&tape, &last)?.tensor().clone();
    Ok(TeacherHead { hidden, weight: embedding_and_head.head().tensor().clone() })
}
