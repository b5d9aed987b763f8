//! What would every answer be, read out after each repetition?

use super::traces::{add_walk, walk};
use crate::data::{Asked, Batch};
use crate::error::{Error, Result, Stopped, go_on};
use crate::halting::{Gate, Traces};
use crate::losses::terms::TeacherHead;
use crate::model::{CausalLm, LoopedTransformer};
use crate::nn::gather::gather_tensor;

/// Runs `model` over `batches`, every token to `repetitions`, and tells what stopping the asked
/// ones earlier would have given, in the order of the batches. Others, of which the input is made,
/// go on.
///
/// There is no teacher: `kl` is KL(the model after all repetitions || it after each), so that it
/// is what stopping changes, and `agree` whether the answer is the right one. `averaged_by` is as in
/// [`super::traces::trace`].
///
/// # Errors
/// A batch asks nothing, the user stopped it, or a device fails.
pub fn trace_answers(
    model: &LoopedTransformer,
    batches: &[Batch],
    repetitions: usize,
    averaged_by: Option<&Gate>,
    stopped: &Stopped,
) -> Result<Traces> {
    let mut traces = Traces::new(repetitions, model.base().width);
    for batch in batches {
        go_on(stopped, "while looking at repetitions")?;
        let asked = Asked::of(&batch.targets).filter(|asked| !asked.places.is_empty());
        let asked = asked.ok_or_else(|| Error::input("a batch asks nothing of some tokens"))?;
        let ids = batch.input_tensor(model.embedding_and_head().device())?;
        let look = |averaged_by| {
            let mut walk = walk(model, &ids, repetitions, averaged_by)?;
            for state in walk.states.iter_mut().chain(&mut walk.said) {
                *state = gather_tensor(state, &asked.places)?;
            }
            Ok::<_, Error>(walk)
        };
        let plain = look(None)?;
        let hidden = plain.said.last().cloned();
        let hidden = hidden.ok_or_else(|| Error::input("no repetitions to look at"))?;
        let walk = match averaged_by {
            Some(_) => look(averaged_by)?,
            None => plain,
        };
        let weight = model.embedding_and_head().head().tensor().clone();
        add_walk(&mut traces, model, &TeacherHead { hidden, weight }, &walk, &asked.targets)?;
        let first = traces.agree.len() - asked.targets.len() * repetitions;
        let right = traces.output[first..].chunks(repetitions).zip(&asked.targets);
        let right = right.flat_map(|(said, &target)| said.iter().map(move |o| o.top == target));
        traces.agree.splice(first.., right);
    }
    Ok(traces)
}
