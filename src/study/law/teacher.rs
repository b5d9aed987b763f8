//! Training of the deep teacher of a task.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::data::SpecialTokens;
use crate::data::tasks::{TaskBatches, TaskSplit};
use crate::disk::write_atomically;
use crate::error::{Error, Result};
use crate::model::{Parameters, Transformer, TransformerConfig};
use crate::pretrain::{LanguageModeling, initial_tensors};
use crate::study::scoring::measure;
use crate::study::sweep::job::{Measured, TeacherJob};
use crate::study::sweep::work::{Work, teacher_folder, test_batches, trained};
use crate::train::Objective;

/// The file of the trained weights, in the folder of the point.
const WEIGHTS: &str = "weights.safetensors";

pub(crate) fn learn(job: &TeacherJob, work: &Work) -> Result<Measured> {
    let task = job.task.build()?;
    let config = config(job)?;
    let start = initial_tensors(&config, job.seed)?;
    let objective =
        LanguageModeling::new(&config, &start)?.supervised(job.supervision, task.chain_length());
    let batches = TaskBatches::new(&task, TaskSplit::Train, job.seed, job.train.batch_rows);
    let summary = work.fit(&objective, &batches, &job.train.train(), job.seed, None)?;
    let weights = safetensors::serialize(&objective.params().tensors(), None)
        .map_err(|error| Error::internal(format!("writing a teacher: {error}")))?;
    write_atomically(&work.folder.join(WEIGHTS), &weights)?;
    let tests = test_batches(&task, task.chain_length(), job.eval.examples)?;
    let draws = job.eval.bootstrap_samples;
    let model = objective.model();
    let mut found = measure(model, None, &tests, &[1], task.width(), draws, work.context())?;
    found.block_parameters = Parameters::of_stack(&config).blocks;
    found.applications = config.layers;
    Ok(trained(found, &summary))
}

/// The teacher another point made, and its tensors.
pub(crate) fn load(
    job: &TeacherJob,
    study: &Path,
) -> Result<(Transformer, BTreeMap<String, Tensor>)> {
    let path = teacher_folder(study, job)?.join(WEIGHTS);
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).map_err(|error| {
        Error::input(format!("the teacher of this student is not done: {error}"))
            .at(path.display())
            .hint("run the study again: points that are done stay done")
    })?;
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    Ok((Transformer::new(&config(job)?, &tensors)?, tensors))
}

fn config(job: &TeacherJob) -> Result<TransformerConfig> {
    job.model.transformer(job.task.build()?.vocabulary(), &SpecialTokens::default())
}
