//! Training of a student: distillation in a folder, with validation and checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::student::Student;
use super::teacher::Teacher;
use super::text;
use crate::context::Context;
use crate::data::{Corpus, EvaluationWindow};
use crate::disk::RunLock;
use crate::distill::{Distillation, TeacherCache};
use crate::error::{Error, Result};
use crate::eval::{EvalConfig, StudentScore, evaluate};
use crate::recipe::DistillPlan;
use crate::train::{Resume, Summary, TrainConfig, Trainer, Validate};

/// Most tokens of a validation during training: enough to see the trend.
const VALIDATION_TOKENS: usize = 2048;

/// A folder to train in.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    /// The lock of the folder, if it is taken already.
    pub(super) lock: Option<RunLock>,
    pub(super) resume: Resume,
}

impl Place {
    /// A trainer in this folder, which takes over the lock.
    pub(super) fn trainer<'t>(
        &mut self,
        config: &'t TrainConfig,
        seed: u64,
        context: &Context,
    ) -> Trainer<'t> {
        let trainer = Trainer::new(config, seed, &self.folder, context);
        match self.lock.take() {
            Some(lock) => trainer.with_lock(lock),
            None => trainer,
        }
    }
}

impl Student {
    /// Distils `teacher` into the student as `plan` says. Checkpoints and `metrics.jsonl` are written
    /// into `folder`; a training that is begun there is resumed.
    ///
    /// # Errors
    /// The plan does not fit the student, the folder is in use, the loss stays non-finite, the disk
    /// is full, or the context is cancelled; then a checkpoint is saved.
    pub fn fit(
        &mut self,
        teacher: &Teacher,
        corpus: &Corpus,
        plan: &DistillPlan,
        folder: impl AsRef<Path>,
        context: &Context,
    ) -> Result<Summary> {
        let folder = folder.as_ref().to_owned();
        let place = Place { folder, lock: None, resume: Resume::IfPresent };
        Ok(self.fit_in(place, teacher, corpus, plan, context)?.1)
    }

    /// The same in a place; the folder stays locked as long as the returned trainer lives.
    pub(super) fn fit_in<'p>(
        &mut self,
        mut place: Place,
        teacher: &Teacher,
        corpus: &Corpus,
        plan: &'p DistillPlan,
        context: &Context,
    ) -> Result<(Trainer<'p>, Summary)> {
        let settings = &plan.settings;
        let objective = self.objective(teacher, plan, context)?;
        let train = &settings.train;
        let batches = text::training_windows(corpus, train.batch_rows, settings.seed)?;
        let config = EvalConfig {
            repetitions: vec![self.model.config().repetitions],
            max_tokens: settings.eval.max_tokens.min(VALIDATION_TOKENS),
            bootstrap_samples: 0,
            ..settings.eval.clone()
        };
        let windows = text::validation(corpus, train.validate_every_steps, &config, context)?;
        let mut measure = |_step: u64| {
            let score = self.score(teacher, &windows, &config, context)?;
            Ok(BTreeMap::from([
                ("perplexity".to_owned(), score.perplexity),
                ("kl_nats".to_owned(), score.kl_nats),
                ("agreement".to_owned(), score.agreement),
            ]))
        };
        let mut trainer = place.trainer(train, settings.seed, context);
        let validate = (!windows.is_empty()).then_some(&mut measure as Validate);
        let summary = trainer.fit(&objective, &batches, place.resume, validate);
        // Cached teacher outputs are complete even when the run was stopped.
        objective.close();
        let summary = summary?;
        trainer.use_ema(&self.params)?;
        Ok((trainer, summary))
    }

    /// The objective, with a teacher that is computed at every step or read from the cache.
    fn objective<'c>(
        &self,
        teacher: &Teacher,
        plan: &DistillPlan,
        context: &'c Context,
    ) -> Result<Distillation<'c>> {
        let (deep, config) = (teacher.model().clone(), plan.distillation.clone());
        let (temperature, base) = (config.loss.temperature as f32, &teacher.checkpoint().config);
        let objective = Distillation::new(deep, self.model.clone(), self.params.clone(), config)?;
        let Some(cached) = plan.teacher.cache.filter(|_| !plan.teacher.live) else {
            return Ok(objective);
        };
        let fingerprint = &teacher.checkpoint().fingerprint;
        let cache = TeacherCache::open(fingerprint, cached, base, temperature, context)?;
        Ok(objective.with_cache(cache))
    }

    /// Scores of the student at the first of the configured repetitions.
    pub(super) fn score(
        &self,
        teacher: &Teacher,
        windows: &[EvaluationWindow],
        config: &EvalConfig,
        context: &Context,
    ) -> Result<StudentScore> {
        let evaluation = evaluate(teacher.model(), Some(&self.model), windows, config, context)?;
        let score = evaluation.student.into_iter().next();
        score.ok_or_else(|| Error::internal("no repetitions measured"))
    }
}
