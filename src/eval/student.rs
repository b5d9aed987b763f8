//! Outputs of a student at each repetition, and cosines of its states with the teacher's.

use candle_core::Tensor;

use super::telemetry::Motion;
use crate::autograd::{Tape, Value};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::losses::{StateComparison, StateScale, compare_states};
use crate::model::{Alignment, CausalLm, LoopedTransformer, TeacherLayer, equal_steps};

/// Cosines between a state after a repetition and the teacher's state at the aligned layer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cosines {
    /// Cosine of the states as they are.
    pub(super) plain: f64,
    /// Cosine with every dimension scaled by its size in the teacher.
    pub(super) scaled: f64,
}

/// A student read out after one repetition.
pub(super) struct Readout {
    /// Last state after the final norm, (B, T, D).
    pub(super) normed: Tensor,
    /// Cosines with the teacher's state; none when its layers or width differ.
    pub(super) cosines: Option<Cosines>,
    /// Motion of the state in this repetition.
    pub(super) motion: Motion,
}

/// Runs `student` once, and reads it out through the coda after each of `repetitions`, which rise.
pub(super) fn readouts(
    student: &LoopedTransformer,
    ids: &Tensor,
    repetitions: &[usize],
    teacher_states: &[Value],
    context: &Context,
) -> Result<Vec<Readout>> {
    let (tape, embedding_and_head) = (Tape::off(), student.embedding_and_head());
    let table = embedding_and_head.rope(0, ids.dim(1)?);
    let first = last(student.prelude(&tape, ids, &table)?)?;
    let mut state = first.clone();
    let mut readouts = Vec::with_capacity(repetitions.len());
    for repetition in 1..=repetitions.last().copied().unwrap_or(0) {
        context.check_cancelled("while evaluating")?;
        let before = state.clone();
        state = student.inject(&tape, &before, &first, repetition - 1)?;
        state = last(student.repeat(&tape, &state, repetition - 1, &table)?)?;
        if repetitions.contains(&repetition) {
            let end = student.coda(&tape, &state, &table)?.pop().unwrap_or_else(|| state.clone());
            let normed = embedding_and_head.normed(&tape, &end)?.tensor().clone();
            let cosines = cosines(student, &state, repetition, teacher_states)?;
            let motion = Motion::between(before.tensor(), state.tensor())?;
            readouts.push(Readout { normed, cosines, motion });
        }
    }
    Ok(readouts)
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
    let target = teacher_state(teacher_states, aligned_layer(student, repetition))?;
    let compare = |scale: StateScale, skip_tokens: usize| {
        let how = StateComparison { squared: 0.0, cosine: 1.0, scale, skip_tokens };
        Ok::<_, Error>(compare_states(&Tape::off(), state, &target, &how, 0.0)?.cosine)
    };
    let (plain, scaled) = (compare(StateScale::Raw, 0)?, compare(StateScale::Dimension, 1)?);
    Ok(Some(Cosines { plain, scaled }))
}

/// The teacher layer aligned with a repetition: equal steps through the middle; past N its end.
fn aligned_layer(student: &LoopedTransformer, repetition: usize) -> TeacherLayer {
    let config = student.config();
    let steps = equal_steps(config, config.repetitions, Alignment::Interpolated);
    let end = TeacherLayer { lower: config.middle().end, fraction: 0.0 };
    steps.get(repetition - 1).copied().unwrap_or(end)
}

/// The teacher's state at a layer, or between two, (B, T, D).
fn teacher_state(states: &[Value], layer: TeacherLayer) -> Result<Tensor> {
    let lower = states[layer.lower].tensor();
    if layer.fraction == 0.0 {
        return Ok(lower.clone());
    }
    let upper = states[layer.lower + 1].tensor();
    Ok(((lower * (1.0 - layer.fraction))? + (upper * layer.fraction)?)?)
}
