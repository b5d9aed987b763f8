//! How does a model come to do what an objective asks?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config::TrainConfig;
use super::ema::Ema;
use super::metrics::StepMetrics;
use super::objective::Objective;
use super::resume::Resume;
use super::run::{Run, Setting};
use crate::autograd::Params;
use crate::context::Context;
use crate::data::Batches;
use crate::disk::RunLock;
use crate::error::{Error, Kind, Result};

/// Measures the model as it stands after some step: numbers by name.
pub type Validate<'a> = &'a mut (dyn FnMut(u64) -> Result<BTreeMap<String, f64>> + 'a);

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Steps taken in the whole run, resumed or not.
    pub steps: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Time trained, without the pauses between runs.
    pub seconds: f64,
    /// Steps skipped because loss or gradient were not finite.
    pub skipped: u64,
    /// Loss of the last step that was not skipped.
    pub loss: f64,
    /// Its parts.
    pub terms: BTreeMap<String, f64>,
}

/// Trains whatever an [`Objective`] describes, in a run folder.
#[derive(Debug)]
pub struct Trainer<'a> {
    config: &'a TrainConfig,
    seed: u64,
    folder: PathBuf,
    context: Context,
    lock: Option<RunLock>,
    ema: Option<Ema>,
}

impl<'a> Trainer<'a> {
    /// A trainer that writes `metrics.jsonl`, `tensorboard/` and `checkpoints/` into `folder`.
    #[must_use]
    pub fn new(config: &'a TrainConfig, seed: u64, folder: &Path, context: &Context) -> Self {
        let (folder, context) = (folder.to_owned(), context.clone());
        Self { config, seed, folder, context, lock: None, ema: None }
    }

    /// Under a lock of the folder that the caller already took; else [`Trainer::fit`] takes one.
    #[must_use]
    pub fn under(mut self, lock: RunLock) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Trains on the caller's thread until all steps are taken.
    ///
    /// # Errors
    /// The configuration is refused, the folder is in use or holds another run, loss or gradient
    /// stay non-finite, the disk is full, or the context is cancelled; then a checkpoint is saved.
    pub fn fit(
        &mut self,
        objective: &dyn Objective,
        batches: &dyn Batches,
        resume: Resume,
        validate: Option<Validate<'_>>,
    ) -> Result<Summary> {
        let context = self.context.clone();
        self.config.validate()?;
        if self.lock.is_none() {
            self.lock = Some(RunLock::acquire(&self.folder)?);
        }
        let setting = Setting {
            config: self.config,
            seed: self.seed,
            folder: &self.folder,
            params: objective.params(),
            context: &context,
        };
        let mut run = Run::start(setting, resume)?;
        begin(&context, self.config, run.progress.step);
        let outcome = go(&mut run, setting, objective, batches, validate);
        context.end();
        outcome?;
        self.ema = run.ema;
        Ok(Summary {
            steps: run.progress.step,
            tokens: run.progress.tokens,
            seconds: run.progress.elapsed_s,
            skipped: run.progress.skipped,
            loss: run.progress.loss,
            terms: run.progress.terms,
        })
    }

    /// Puts the average of the weights in their place, after [`Trainer::fit`]; tells whether
    /// there was one.
    ///
    /// # Errors
    /// `params` are those of another model.
    pub fn use_ema(&self, params: &Params) -> Result<bool> {
        self.ema.as_ref().map(|ema| ema.apply(params)).transpose().map(|done| done.is_some())
    }
}

fn go(
    run: &mut Run<'_>,
    setting: Setting<'_>,
    objective: &dyn Objective,
    batches: &dyn Batches,
    mut validate: Option<Validate<'_>>,
) -> Result<()> {
    let Setting { config, context, .. } = setting;
    while run.progress.step < config.steps {
        let Some(metrics) = run.step(objective, batches)? else { return stop(run, config.steps) };
        let step = run.progress.step;
        context.advance(step, &message(&metrics));
        if let Some(validate) =
            validate.as_mut().filter(|_| is_due(step, config.validate_every_steps))
        {
            // It draws its own progress.
            context.end();
            match validate(step) {
                Err(error) if error.kind() == Kind::Interrupted => return stop(run, config.steps),
                found => run.validated(&found?)?,
            }
            begin(context, config, step);
        }
        if is_due(step, config.checkpoint_every_steps) {
            run.save()?;
        }
    }
    run.save()?;
    Ok(())
}

/// Saves a run that is asked to stop, and says how to go on.
fn stop(run: &mut Run<'_>, steps: u64) -> Result<()> {
    let path = run.save()?;
    let step = run.progress.step;
    let saved = path.display();
    Err(Error::interrupted(format!("stopped after step {step} of {steps}; saved in {saved}"))
        .hint("go on with the same command and --resume"))
}

fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

fn begin(context: &Context, config: &TrainConfig, step: u64) {
    context.begin("train", config.steps, "steps");
    context.advance(step, "");
}

fn message(metrics: &StepMetrics) -> String {
    let loss = metrics.loss.map_or("not finite, skipped".to_owned(), |loss| format!("{loss:.4}"));
    format!("loss {loss}, {:.0} tokens/s", metrics.tokens_per_s)
}
