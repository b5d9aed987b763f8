//! Traces of answers: every supervised token, read out after each repetition.

use super::traces::{add_walk, walk};
use crate::context::Context;
use crate::data::{Batch, SupervisedTokens};
use crate::error::{Error, Result};
use crate::halting::{Gate, Traces};
use crate::losses::TeacherHead;
use crate::model::{CausalLm, LoopedTransformer};
use crate::nn::gather_tensor;

/// Runs `model` over `batches`, every token to `repetitions`, and records what stopping each
/// supervised token earlier gives, in the order of the batches. Tokens without a target are never
/// stopped.
///
/// There is no teacher: `kl` is KL(output after all repetitions || output after each), the change
/// that stopping makes, and `agree` is whether the answer is the right one. `averaged_by` is as in
/// [`super::traces::trace`].
///
/// # Errors
/// A batch supervises no token, the user stopped it, or a device fails.
pub fn trace_answers(
    model: &LoopedTransformer,
    batches: &[Batch],
    repetitions: usize,
    averaged_by: Option<&Gate>,
    context: &Context,
) -> Result<Traces> {
    let mut traces = Traces::new(repetitions, model.base().width);
    for batch in batches {
        context.check_cancelled("while repetitions were traced")?;
        let supervised =
            SupervisedTokens::in_targets(&batch.targets).filter(|mask| !mask.places.is_empty());
        let supervised =
            supervised.ok_or_else(|| Error::input("a batch has no supervised token"))?;
        let ids = batch.input_tensor(model.embedding_and_head().device())?;
        let trace = |averaged_by| {
            let mut walk = walk(model, &ids, repetitions, averaged_by)?;
            for state in walk.states.iter_mut().chain(&mut walk.normed) {
                *state = gather_tensor(state, &supervised.places)?;
            }
            Ok::<_, Error>(walk)
        };
        let plain = trace(None)?;
        let hidden = plain.normed.last().cloned();
        let hidden = hidden.ok_or_else(|| Error::input("no repetitions to trace"))?;
        let walk = match averaged_by {
            Some(_) => trace(averaged_by)?,
            None => plain,
        };
        let weight = model.embedding_and_head().head().tensor().clone();
        add_walk(&mut traces, model, &TeacherHead { hidden, weight }, &walk, &supervised.targets)?;
        let first = traces.agree.len() - supervised.targets.len() * repetitions;
        let right = traces.output[first..].chunks(repetitions).zip(&supervised.targets);
        let right =
            right.flat_map(|(outputs, &target)| outputs.iter().map(move |o| o.top == target));
        traces.agree.splice(first.., right);
    }
    Ok(traces)
}
