//! The training loop: steps, validations and checkpoints of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config::TrainConfig;
use super::ema::Ema;
use super::metrics::StepMetrics;
use super::objective::Objective;
use super::resume::Resume;
use super::run::{Run, RunInputs};
use crate::autograd::Params;
use crate::context::Context;
use crate::data::Batches;
use crate::disk::RunLock;
use crate::error::{Error, Kind, Result};

/// Validates the model after a step: metrics by name.
pub type Validate<'a> = &'a mut (dyn FnMut(u64) -> Result<BTreeMap<String, f64>> + 'a);

/// The result of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Steps taken in the whole run, resumed or not.
    pub steps: u64,
    /// Tokens processed.
    pub tokens: u64,
    /// Training time in seconds, without the time between an interruption and its resumption.
    pub seconds: f64,
    /// Steps skipped because loss or gradient were not finite.
    pub skipped: u64,
    /// Loss of the last step that was not skipped.
    pub loss: f64,
    /// Its terms by name, unweighted.
    pub terms: BTreeMap<String, f64>,
}

/// Trains an [`Objective`] in a run folder.
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

    /// Uses a lock of the folder that the caller holds; otherwise [`Trainer::fit`] acquires one.
    #[must_use]
    pub fn with_lock(mut self, lock: RunLock) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Trains until all steps are taken, and saves a checkpoint at the end.
    ///
    /// # Errors
    /// The configuration is invalid, the folder is in use or holds another run, loss or gradient
    /// stay non-finite, the disk is full, or the interrupt is set; in the last case a checkpoint is
    /// saved first.
    pub fn fit(
        &mut self,
        objective: &dyn Objective,
        batches: &dyn Batches,
        resume: Resume,
        validate: Option<Validate<'_>>,
    ) -> Result<Summary> {
        let context = &self.context.clone();
        self.config.validate()?;
        if self.lock.is_none() {
            self.lock = Some(RunLock::acquire(&self.folder)?);
        }
        let inputs = RunInputs {
            config: self.config,
            seed: self.seed,
            folder: &self.folder,
            params: objective.params(),
            context,
        };
        let mut run = Run::start(inputs, resume)?;
        begin(context, self.config, run.progress.step);
        let outcome = take_steps(&mut run, inputs, objective, batches, validate);
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

    /// Replaces the weights by their moving average, after [`Trainer::fit`]; false if no average
    /// was configured.
    ///
    /// # Errors
    /// `params` are those of another model.
    pub fn use_ema(&self, params: &Params) -> Result<bool> {
        self.ema.as_ref().map(|ema| ema.apply(params)).transpose().map(|done| done.is_some())
    }
}

fn take_steps(
    run: &mut Run<'_>,
    inputs: RunInputs<'_>,
    objective: &dyn Objective,
    batches: &dyn Batches,
    mut validate: Option<Validate<'_>>,
) -> Result<()> {
    let RunInputs { config, context, .. } = inputs;
    let mut phase = None;
    while run.progress.step < config.steps {
        phase = note_phase(phase, objective.phase(run.progress.step, config.steps), run, context);
        let Some(metrics) = run.step(objective, batches)? else { return stop(run, config.steps) };
        let step = run.progress.step;
        context.advance(step, &message(&metrics));
        if let Some(validate) =
            validate.as_mut().filter(|_| is_due(step, config.validate_every_steps))
        {
            // A validation shows its own progress bar.
            context.end();
            match validate(step) {
                Err(error) if error.kind() == Kind::Interrupted => return stop(run, config.steps),
                metrics => run.record_validation(&metrics?)?,
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

/// Notes when another phase begins; returns the current one.
fn note_phase(
    before: Option<&'static str>,
    now: Option<&'static str>,
    run: &Run<'_>,
    context: &Context,
) -> Option<&'static str> {
    if let Some((_, now)) = before.zip(now).filter(|(before, now)| before != now) {
        context.note(&format!(
            "the {now} phase begins at step {}: its loss is another function, and may jump",
            run.progress.step + 1
        ));
    }
    now
}

/// Saves an interrupted run; the error says how to resume.
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
