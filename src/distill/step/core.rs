//! The repetitions of a core that all tokens go through together.

use std::rc::Rc;

use super::inputs::StepInputs;
use super::teacher_outputs::TeacherOutputs;
use crate::autograd::{Tape, Value};
use crate::error::Result;
use crate::model::{LoopedTransformer, TeacherLayer};
use crate::nn::RopeTable;

/// The state that a repetition starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The state after the repetition before it.
    Previous,
    /// The same without a gradient: truncated backpropagation.
    Detached,
    /// The teacher's state at the layer aligned with it: scheduled sampling.
    Teacher,
}

/// The core with what its repetitions read.
pub(super) struct Core {
    student: LoopedTransformer,
    table: RopeTable,
    pub(super) teacher: Rc<TeacherOutputs>,
    /// The teacher layer aligned with the state after each application of a core layer, (N K).
    pub(super) layers: Vec<TeacherLayer>,
    /// The start of each repetition, (N).
    starts: Vec<Start>,
}

impl Core {
    pub(super) fn new(inputs: &StepInputs, table: &RopeTable, starts: &[Start]) -> Self {
        Self {
            student: inputs.student.clone(),
            table: table.clone(),
            teacher: inputs.teacher_outputs.clone(),
            layers: inputs.aligned_layers(starts.len()),
            starts: starts.to_vec(),
        }
    }

    pub(super) fn repetitions(&self) -> usize {
        self.starts.len()
    }

    /// The states after each layer of a repetition, counted from 0, K of (B, T, D). `state` is the one
    /// before it, `prelude` the prelude's.
    pub(super) fn repeat(
        &self,
        tape: &Tape,
        repetition: usize,
        state: &Value,
        prelude: &Value,
    ) -> Result<Vec<Value>> {
        let state = match self.starts[repetition] {
            Start::Previous => state.clone(),
            Start::Detached => state.detached(),
            Start::Teacher => {
                let layer = self.layers[repetition * self.student.config().core_layers - 1];
                Value::constant(self.teacher.at_layer(layer)?)
            }
        };
        let state = self.student.inject(tape, &state, prelude, repetition)?;
        self.student.repeat(tape, &state, repetition, &self.table)
    }
}
