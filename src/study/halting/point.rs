//! One point of a halting study: when policies stop a block trained on chains of many lengths.

use super::stops::Exits;
use crate::data::tasks::{Task, TaskBatches, TaskSplit};
use crate::data::{Batch, Batches};
use crate::error::Result;
use crate::eval::{choose, trace_answers};
use crate::halting::Gate;
use crate::model::Parameters;
use crate::study::scaling::samples::start;
use crate::study::sweep::job::ExitsJob;
use crate::study::sweep::work::{ROWS, TEST_SEED, Work};

/// Trains, fits gates on validation examples, chooses thresholds on others, and counts on test
/// examples.
pub(crate) fn exits(job: &ExitsJob, work: &Work) -> Result<Exits> {
    let learner = &job.learner;
    let task = learner.task.build()?;
    let rows = learner.train.batch_rows;
    let examples = stream(job, &task, TaskSplit::Train, learner.seed, rows)?;
    let batches = examples.supervised(job.told, job.steps);
    let (objective, config) = start(learner, &task)?;
    let summary = work.fit(&objective, &batches, &learner.train.train(), learner.seed, None)?;
    let model = objective.model();
    let fitted = asked(job, &task, TaskSplit::Validation, 0)?;
    let chosen = asked(job, &task, TaskSplit::Validation, 1)?;
    let test = asked(job, &task, TaskSplit::Test, 0)?;
    let look = |batches: &[Batch], averaged_by: Option<&Gate>| {
        trace_answers(model, batches, learner.repetitions, averaged_by, work.context())
    };
    let by = |gate: &Gate| look(&chosen, Some(gate));
    let (first, second) = (look(&fitted, None)?, look(&chosen, None)?);
    let policies = choose(&first, &second, &by, None, job.risk, learner.seed)?;
    let by = |gate: &Gate| look(&test, Some(gate));
    let found = Exits::of(&look(&test, None)?, &by, &lengths(&test, &task), &policies)?;
    let block_parameters = Parameters::of_student(&config).blocks;
    Ok(Exits { block_parameters, loss: summary.loss, ..found })
}

/// Chains of all lengths of the job, each as often.
fn stream(
    job: &ExitsJob,
    task: &Task,
    split: TaskSplit,
    seed: u64,
    rows: usize,
) -> Result<TaskBatches> {
    let lengths = &job.learner.lengths;
    let shortest = lengths.first().copied().unwrap_or(task.chain_length());
    TaskBatches::new(task, split, seed, rows).of_lengths(shortest, task.chain_length())
}

/// Part `part` of a split, with at least as many examples of every length as are asked for. The same
/// for every seed of a study.
fn asked(job: &ExitsJob, task: &Task, split: TaskSplit, part: u64) -> Result<Vec<Batch>> {
    let learner = &job.learner;
    let rows = ROWS.min(learner.eval.examples.max(1));
    let rounds = learner.eval.examples.div_ceil(rows);
    let count = (rounds * learner.lengths.len()) as u64;
    let stream = stream(job, task, split, TEST_SEED, rows)?;
    (part * count..(part + 1) * count).map(|index| stream.batch(index)).collect()
}

/// Of the chain of every asked place, in the order of the batches.
fn lengths(batches: &[Batch], task: &Task) -> Vec<usize> {
    let places = |batch: &Batch| std::iter::repeat_n(batch.chain.len(), batch.rows * task.width());
    batches.iter().flat_map(places).collect()
}
