//! What does a student say at each repetition, and how near are its states to the teacher's?

use candle_core::Tensor;

use super::telemetry::Motion;
use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::losses::hidden::compare_states;
use crate::losses::terms::{StateComparison, StateScale};
use crate::model::alignment::{Alignment, TeacherLayer, equal_steps};
use crate::model::{CausalLm, LoopedTransformer};

/// Cosines between a state after a repetition and the teacher's state it stands for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cosines {
    /// Of the states as they are.
    pub(super) plain: f64,
    /// With every dimension scaled by its size in the teacher.
    pub(super) scaled: f64,
}

/// A student at one repetition.
pub(super) struct Exit {
    /// Normed last state, (B, T, D).
    pub(super) normed: Tensor,
    /// None when the teacher has other layers or another width.
    pub(super) cosines: Option<Cosines>,
    /// Of the last repetition.
    pub(super) motion: Motion,
}

/// Runs `student` once, and leaves through the coda at every one of `repetitions`, which rise.
pub(super) fn exits(
    student: &LoopedTransformer,
    ids: &Tensor,
    repetitions: &[usize],
    teacher_states: &[Value],
    stopped: &dyn Fn() -> bool,
) -> Result<Vec<Exit>> {
    let (tape, embedding_and_head) = (Tape::off(), student.embedding_and_head());
    let table = embedding_and_head.rope(0, ids.dim(1)?);
    let first = last(student.prelude(&tape, ids, &table)?)?;
    let mut state = first.clone();
    let mut exits = Vec::with_capacity(repetitions.len());
    for repetition in 1..=repetitions.last().copied().unwrap_or(0) {
        if stopped() {
            return Err(Error::interrupted("stopped while evaluating"));
        }
        let before = state.clone();
        state = student.inject(&tape, &before, &first, repetition - 1)?;
        state = last(student.repeat(&tape, &state, repetition - 1, &table)?)?;
        if repetitions.contains(&repetition) {
            let end = student.coda(&tape, &state, &table)?.pop().unwrap_or_else(|| state.clone());
            let normed = embedding_and_head.normed(&tape, &end)?.tensor().clone();
            let cosines = cosines(student, &state, repetition, teacher_states)?;
            let motion = Motion::between(before.tensor(), state.tensor())?;
            exits.push(Exit { normed, cosines, motion });
        }
    }
    Ok(exits)
}

fn last(mut states: Vec<Value>) -> Result<Value> {
    states.pop().ok_or_else(|| Error::internal("a part of the student has no layers"))
}

fn cosines(
    student: &LoopedTransformer,
    state: &Value,
    repetition: usize,
    teacher_states: &[Value],
) -> Result<Option<Cosines>> {
    let config = student.config();
    if teacher_states.len() != config.base.layers + 1
        || teacher_states[0].tensor().dims() != state.tensor().dims()
    {
        return Ok(None);
    }
    let target = aligned(teacher_states, depth(student, repetition))?;
    let compare = |scale: StateScale, skip_tokens: usize| {
        let how = StateComparison { squared: 0.0, cosine: 1.0, scale, skip_tokens };
        Ok::<_, Error>(compare_states(&Tape::off(), state, &target, &how, 0.0)?.cosine)
    };
    let (plain, scaled) = (compare(StateScale::Raw, 0)?, compare(StateScale::Dimension, 1)?);
    Ok(Some(Cosines { plain, scaled }))
}

/// Equal steps through the teacher's middle; past N its end.
fn depth(student: &LoopedTransformer, repetition: usize) -> TeacherLayer {
    let config = student.config();
    let steps = equal_steps(config, config.repetitions, Alignment::Interpolated);
    let end = TeacherLayer { lower: config.middle().end, fraction: 0.0 };
    steps.get(repetition - 1).copied().unwrap_or(end)
}

/// The teacher's state at a depth, (B, T, D).
fn aligned(states: &[Value], depth: TeacherLayer) -> Result<Tensor> {
    let lower = states[depth.lower].tensor();
    if depth.fraction == 0.0 {
        return Ok(lower.clone());
    }
    let upper = states[depth.lower + 1].tensor();
    Ok(((lower * (1.0 - depth.fraction))? + (upper * depth.fraction)?)?)
}
