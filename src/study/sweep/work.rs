//! A point under way: its folder, its training, and what it is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::job::{Job, Measured, TeacherJob};
use crate::context::Context;
use crate::data::tasks::{Task, TaskBatches, TaskSplit};
use crate::data::{Batch, Batches};
use crate::disk::RunLock;
use crate::error::{Error, Result};
use crate::run::Options;
use crate::train::{Objective, Resume, Summary, TrainConfig, Trainer};

/// Examples read at once when answers are counted.
pub(crate) const ROWS: usize = 64;
/// How long, and how often, a point waits for a process that still has it.
const WAIT: Duration = Duration::from_millis(100);
const ATTEMPTS: usize = 300;
/// The seed of all test examples: every point of a study is asked the same.
pub(crate) const TEST_SEED: u64 = 0;

/// Where a job keeps what it makes.
pub(crate) fn folder(study: &Path, job: &Job) -> Result<PathBuf> {
    Ok(study.join("points").join(job.id()?))
}

/// A job under way.
pub(crate) struct Work<'a> {
    /// Its own folder.
    pub(crate) folder: PathBuf,
    /// That of the study.
    pub(crate) study: &'a Path,
    /// The options of the study.
    pub(crate) options: &'a Options,
}

impl Work<'_> {
    /// Takes the folder, when whoever had it has noticed that it is to stop: a study that was killed
    /// leaves processes that save what they have.
    fn patient_lock(&self, folder: &Path) -> Result<RunLock> {
        for _ in 0..ATTEMPTS {
            if let Ok(lock) = RunLock::acquire(folder) {
                return Ok(lock);
            }
            self.context().check_cancelled("while another process had this point")?;
            std::thread::sleep(WAIT);
        }
        RunLock::acquire(folder)
    }

    /// Device, observer, cancellation and cache.
    pub(crate) fn context(&self) -> &Context {
        &self.options.context
    }

    /// Trains in the folder of the job, or in `part` of it, going on where it was stopped.
    pub(crate) fn fit(
        &self,
        objective: &dyn Objective,
        batches: &dyn Batches,
        train: &TrainConfig,
        seed: u64,
        part: Option<&str>,
    ) -> Result<Summary> {
        let folder = part.map_or_else(|| self.folder.clone(), |part| self.folder.join(part));
        let mut trainer = Trainer::new(train, seed, &folder, self.context())
            .with_lock(self.patient_lock(&folder)?);
        trainer.fit(objective, batches, Resume::IfPresent, None)
    }
}

/// Removes what a finished training leaves and nobody reads again.
pub(crate) fn tidy(folder: &Path) -> Result<()> {
    for part in ["checkpoints", "tensorboard"] {
        let path = folder.join(part);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|error| Error::io("removing", &path, &error))?;
        }
    }
    Ok(())
}

/// Test examples with chains of `length`, at least `count` of them.
pub(crate) fn test_batches(task: &Task, length: usize, count: usize) -> Result<Vec<Batch>> {
    let rows = ROWS.min(count.max(1));
    let stream = TaskBatches::new(task, TaskSplit::Test, TEST_SEED, rows).of_length(length)?;
    (0..count.div_ceil(rows) as u64).map(|index| stream.batch(index)).collect()
}

/// Counts the training into what was measured.
pub(crate) fn trained(mut found: Measured, summary: &Summary) -> Measured {
    found.loss = summary.loss;
    found
}

/// The point of a teacher that another one asks for.
pub(crate) fn teacher_folder(study: &Path, job: &TeacherJob) -> Result<PathBuf> {
    folder(study, &Job::Teacher(job.clone()))
}
