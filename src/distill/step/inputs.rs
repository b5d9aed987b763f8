//! The inputs of a step, whatever its kind.

use std::rc::Rc;

use candle_core::Tensor;

use super::teacher_outputs::TeacherOutputs;
use crate::autograd::{Tape, Value};
use crate::data::Batch;
use crate::distill::config::DistillConfig;
use crate::error::Result;
use crate::model::{
    Alignment, CausalLm, LoopedTransformer, TeacherLayer, Transformer, equal_steps,
};
use crate::nn::{Linear, RopeTable};

/// The models, the batch with the teacher's outputs for it, and the progress of the run.
pub(crate) struct StepInputs<'a> {
    pub(crate) student: &'a LoopedTransformer,
    pub(crate) teacher: &'a Transformer,
    pub(crate) teacher_outputs: Rc<TeacherOutputs>,
    /// From the student's width to the teacher's, if they differ.
    pub(crate) width_map: Option<&'a Linear>,
    pub(crate) config: &'a DistillConfig,
    pub(crate) batch: &'a Batch,
    /// Input tokens of the batch, (B, T).
    pub(crate) ids: &'a Tensor,
    /// Fraction of the run that is done, 0 to 1.
    pub(crate) progress: f64,
}

impl StepInputs<'_> {
    /// Rotary embedding of the positions of a row.
    pub(super) fn rope(&self) -> Result<RopeTable> {
        Ok(self.student.embedding_and_head().rope(0, self.ids.dim(1)?))
    }

    /// The state after the prelude, (B, T, D).
    pub(super) fn prelude(&self, tape: &Tape, table: &RopeTable) -> Result<Value> {
        let states = self.student.prelude(tape, self.ids, table)?;
        Ok(states[states.len() - 1].clone())
    }

    /// The teacher layer aligned with the state after each application of a core layer, (N K).
    /// Monotone alignment depends on the states; before they exist, layers are spaced equally.
    pub(super) fn aligned_layers(&self, repetitions: usize) -> Vec<TeacherLayer> {
        let alignment = match self.config.loss.hidden.alignment {
            Alignment::Monotone => Alignment::Uniform,
            other => other,
        };
        let student = self.student.config();
        equal_steps(student, repetitions * student.core_layers, alignment)
    }
}
