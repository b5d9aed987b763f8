//! Sample complexity: the examples a small block needs to learn a task without a teacher.

use crate::data::SpecialTokens;
use crate::data::tasks::{Task, TaskBatches, TaskSplit};
use crate::error::Result;
use crate::model::{LoopedConfig, LoopedTransformer, Parameters, Relaxation, StateNorm};
use crate::pretrain::{LanguageModeling, initial_looped_tensors};
use crate::study::scoring::measure;
use crate::study::sweep::job::{Enough, LearnerJob, Measured, SamplesJob};
use crate::study::sweep::work::{Work, test_batches, tidy, trained};

pub(crate) fn learn(job: &LearnerJob, work: &Work) -> Result<Measured> {
    let task = job.task.build()?;
    let batches = TaskBatches::new(&task, TaskSplit::Train, job.seed, job.train.batch_rows);
    let (objective, config) = start(job, &task)?;
    let summary = work.fit(&objective, &batches, &job.train.train(), job.seed, None)?;
    let mut found = Measured::default();
    for &length in &job.lengths {
        let one = asked(job, objective.model(), &task, length, work)?;
        found.repetitions.push(length);
        found.accuracy.extend(one.accuracy);
        found.nll_nats.extend(one.nll_nats);
        found.examples = one.examples;
    }
    found.block_parameters = Parameters::of_student(&config).blocks;
    found.applications = config.applications(job.repetitions);
    Ok(trained(found, &summary))
}

pub(crate) fn start(
    job: &LearnerJob,
    task: &Task,
) -> Result<(LanguageModeling<LoopedTransformer>, LoopedConfig)> {
    let base = job.model.transformer(task.vocabulary(), &SpecialTokens::default())?;
    let config = LoopedConfig {
        prelude_layers: 0,
        core_layers: job.model.layers,
        repetitions: job.repetitions,
        coda_layers: 0,
        relaxation: Relaxation::None,
        injection: job.injection,
        state_norm: StateNorm::None,
        gate: None,
        base,
    };
    let objective = LanguageModeling::looped(&config, &initial_looped_tensors(&config, job.seed)?)?;
    Ok((objective.supervised(job.supervision, task.chain_length()), config))
}

/// Chains of `length`, after as many repetitions for a step as were trained.
fn asked(
    job: &LearnerJob,
    model: &LoopedTransformer,
    task: &Task,
    length: usize,
    work: &Work,
) -> Result<Measured> {
    let longer = job.task.with_length(length.max(task.chain_length())).build()?;
    let tests = test_batches(&longer, length, job.eval.examples)?;
    let repetitions = (job.repetitions * length).div_ceil(task.chain_length());
    let draws = job.eval.bootstrap_samples;
    measure(model, None, &tests, &[repetitions], task.width(), draws, work.context())
}

/// Starts anew with other numbers of examples until it is known which of them is the fewest that
/// are enough.
pub(crate) fn enough(job: &SamplesJob, work: &Work) -> Result<Enough> {
    let mut tried: Vec<(u64, f64)> = Vec::new();
    let (low, high) = fewest(&job.examples, |examples| {
        let accuracy = accuracy_of(job, examples, work)?;
        tried.push((examples, accuracy));
        Ok(accuracy >= job.accuracy)
    })?;
    tried.sort_unstable_by_key(|&(examples, _)| examples);
    Ok(Enough { low, high, tried })
}

/// The most of the rising `values` that are not enough, 0 if all are, and the fewest that are, found
/// by halving: what is enough is taken to be enough with more.
fn fewest(
    values: &[u64],
    mut is_enough: impl FnMut(u64) -> Result<bool>,
) -> Result<(u64, Option<u64>)> {
    let (mut few, mut many) = (0, values.len());
    while few < many {
        let place = usize::midpoint(few, many);
        if is_enough(values[place])? {
            many = place;
        } else {
            few = place + 1;
        }
    }
    let low = few.checked_sub(1).map_or(0, |place| values[place]);
    Ok((low, values.get(many).copied()))
}

/// On others, of what learned from so many.
fn accuracy_of(job: &SamplesJob, examples: u64, work: &Work) -> Result<f64> {
    let task = job.learner.task.build()?;
    let (objective, _) = start(&job.learner, &task)?;
    let (seed, rows) = (job.learner.seed, job.learner.train.batch_rows);
    let batches = TaskBatches::new(&task, TaskSplit::Train, seed, rows)
        .of_lengths(job.shortest, task.chain_length())?
        .of_examples(examples);
    let part = format!("of-{examples}");
    work.fit(&objective, &batches, &job.learner.train.train(), seed, Some(&part))?;
    let found = asked(&job.learner, objective.model(), &task, task.chain_length(), work)?;
    tidy(&work.folder.join(&part))?;
    Ok(found.accuracy[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_finds_what_trying_all_finds() {
        let values = [3, 5, 8, 13, 21, 34];
        for least in [1, 3, 4, 5, 13, 34, 35] {
            let mut asked = Vec::new();
            let found = fewest(&values, |value| {
                asked.push(value);
                Ok(value >= least)
            });
            let low = values.iter().copied().filter(|&value| value < least).max().unwrap_or(0);
            let high = values.iter().copied().find(|&value| value >= least);
            assert_eq!(found.unwrap(), (low, high), "{least}");
            assert!(asked.len() <= 3, "{asked:?}");
        }
    }
}
