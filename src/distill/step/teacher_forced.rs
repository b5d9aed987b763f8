//! A teacher-forced step: the core runs on the teacher's states and is trained on the hidden-state
//! loss alone.

use super::hidden_loss::{HiddenLoss, HiddenTargets, TokenGroup};
use super::inputs::StepInputs;
use super::loss_terms::LossSum;
use crate::autograd::{Tape, Value};
use crate::distill::granularity::Granularity;
use crate::error::Result;
use crate::model::TeacherLayer;
use crate::nn::RopeTable;
use crate::train::Loss;

/// A step in which every repetition, or every layer, reads the teacher's state.
pub(crate) struct TeacherForced {
    /// N of the step.
    pub(crate) repetitions: usize,
}

impl TeacherForced {
    /// Loss and gradients of the step.
    pub(crate) fn run(&self, inputs: StepInputs) -> Result<Loss> {
        let tape = Tape::recording();
        let hidden = self.forward(&inputs, &tape)?;
        // The teacher's states are not needed in the backward pass.
        drop(inputs);
        let mut losses = LossSum::default();
        losses.metric("repetitions", self.repetitions as f64);
        let loss = losses.finish(tape, || hidden.terms())?;
        // Prelude, coda and gates take no part in it.
        Ok(Loss { partial: true, ..loss })
    }

    fn forward(&self, inputs: &StepInputs, tape: &Tape) -> Result<HiddenLoss> {
        let table = inputs.rope()?;
        let layers = inputs.aligned_layers(self.repetitions);
        let group = TokenGroup::all(inputs, self.repetitions, layers.clone());
        let hidden = HiddenLoss::new(HiddenTargets::new(inputs, vec![group]));
        for repetition in 0..self.repetitions {
            let states = repeat(tape, inputs, &table, &layers, repetition)?;
            hidden.record(tape, repetition, &states, &inputs.teacher_outputs)?;
        }
        Ok(hidden)
    }
}

/// The states after each layer of a repetition on the teacher's states, K of (B, T, D). `layers` are
/// aligned with the states after each application of a core layer.
fn repeat(
    tape: &Tape,
    inputs: &StepInputs,
    table: &RopeTable,
    layers: &[TeacherLayer],
    repetition: usize,
) -> Result<Vec<Value>> {
    let student = inputs.student;
    let prelude_end = TeacherLayer { lower: student.config().middle().start, fraction: 0.0 };
    let teacher_state = |application: usize| -> Result<Value> {
        let layer = if application == 0 { prelude_end } else { layers[application - 1] };
        Ok(Value::constant(inputs.teacher_outputs.at_layer(layer)?))
    };
    // The teacher's state takes the place of the prelude's.
    let prelude = Value::constant(inputs.teacher_outputs.at_layer(prelude_end)?);
    let first = repetition * student.config().core_layers;
    let mut state = student.inject(tape, &teacher_state(first)?, &prelude, repetition)?;
    let mut states = Vec::new();
    for (layer, block) in student.core_at(repetition).iter().enumerate() {
        if layer > 0 && inputs.config.phases.force == Granularity::Layer {
            state = teacher_state(first + layer)?;
        }
        state = block.forward(tape, &state, table, None)?;
        states.push(state.clone());
    }
    Ok(states)
}
