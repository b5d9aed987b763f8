//! The distances between states from which monotone alignment is computed.

use super::hidden_loss::state_comparison;
use super::inputs::StepInputs;
use crate::autograd::{Tape, Value};
use crate::error::Result;
use crate::losses::compare_states;
use crate::model::Alignment;

/// Whether the alignment of this step is computed from its states.
pub(super) fn is_monotone(inputs: &StepInputs) -> bool {
    let hidden = &inputs.config.loss.hidden;
    hidden.alignment == Alignment::Monotone && hidden.weight.at(inputs.progress) > 0.0
}

/// Relative squared error of each of `states`, (B, T, D), to each state of the teacher's middle.
pub(super) fn state_distances(inputs: &StepInputs, states: &[Value]) -> Result<Vec<Vec<f64>>> {
    let middle = inputs.student.config().middle();
    let comparison = state_comparison(&inputs.config.loss.hidden);
    let tape = Tape::off();
    let distance = |state: &Value, layer: usize| {
        let target = inputs.teacher_outputs.state(layer)?;
        let state = match inputs.width_map {
            Some(map) => map.forward(&tape, &state.detached())?,
            None => state.detached(),
        };
        Ok(compare_states(&tape, &state, target, &comparison, 0.0)?.squared)
    };
    let distances =
        |state| (middle.start..=middle.end).map(|layer| distance(state, layer)).collect();
    states.iter().map(distances).collect()
}
