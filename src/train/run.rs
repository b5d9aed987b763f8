//! One optimizer step of a run, and the state that is saved between steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::checkpoint::Checkpoints;
use super::config::TrainConfig;
use super::ema::Ema;
use super::gradients::GradientSum;
use super::metrics::{Recorder, StepMetrics};
use super::objective::{Objective, StepContext};
use super::optimizer::Optimizer;
use super::resume::{Resume, fingerprint, restore};
use super::shards::in_shards;
use super::state::{FrozenFingerprint, Manifest, Progress, Restored};
use super::store::Saved;
use crate::autograd::Params;
use crate::context::Context;
use crate::data::Batches;
use crate::error::{Error, Result};

/// The inputs of a run, which it does not change.
#[derive(Clone, Copy)]
pub(super) struct RunInputs<'a> {
    pub(super) config: &'a TrainConfig,
    pub(super) seed: u64,
    pub(super) folder: &'a Path,
    pub(super) params: &'a Params,
    pub(super) context: &'a Context,
}

/// A run in progress.
pub(super) struct Run<'a> {
    inputs: RunInputs<'a>,
    optimizer: Optimizer,
    pub(super) ema: Option<Ema>,
    pub(super) progress: Progress,
    recorder: Recorder,
    checkpoints: Checkpoints,
    frozen: BTreeMap<String, FrozenFingerprint>,
    saved_step: Option<u64>,
    started: Instant,
    elapsed_before_s: f64,
    /// Parameters without a gradient in the last warning about them.
    missing_warned: usize,
}

/// The accumulated micro-batches of one step.
struct Accumulated {
    gradients: GradientSum,
    loss: f64,
    terms: BTreeMap<String, f64>,
    tokens: u64,
    partial: bool,
    started: Instant,
}

impl<'a> Run<'a> {
    /// Starts a new run, or resumes from the newest checkpoint.
    pub(super) fn start(inputs: RunInputs<'a>, resume: Resume) -> Result<Self> {
        let RunInputs { config, params, context, .. } = inputs;
        if params.trainable().next().is_none() {
            return Err(Error::input("there is nothing to train: every parameter is frozen"));
        }
        let checkpoints = Checkpoints::new(inputs.folder, config.keep_checkpoints);
        let restored = checkpoint_to_resume(inputs, &checkpoints, resume)?;
        let mut optimizer = Optimizer::new(&config.optimizer, params)?;
        for pattern in optimizer.unmatched_groups() {
            context.warn(&format!(
                "train.optimizer.groups: `{pattern}` matches no trainable parameter"
            ));
        }
        let frozen = FrozenFingerprint::all(params)?;
        let mut progress = Progress::default();
        if let Some(restored) = &restored {
            restore(config, inputs.seed, params, restored, &frozen, &mut optimizer, context)
                .map_err(|error| error.at(restored.path.display()))?;
            progress = restored.manifest.progress.clone();
            context.note(&resumed(progress.step, config.steps));
        }
        let mut ema = config.ema.map(|decay| Ema::new(decay, params)).transpose()?;
        if let (Some(ema), Some(restored)) = (&mut ema, &restored) {
            ema.load(params, &restored.tensors)?;
        }
        Ok(Self {
            inputs,
            optimizer,
            ema,
            recorder: Recorder::open(inputs.folder, progress.step)?,
            checkpoints,
            frozen,
            saved_step: restored.map(|restored| restored.manifest.progress.step),
            started: Instant::now(),
            elapsed_before_s: progress.elapsed_s,
            progress,
            missing_warned: 0,
        })
    }

    /// Takes one step; None: the run was interrupted, and the step is discarded.
    pub(super) fn step(
        &mut self,
        objective: &dyn Objective,
        batches: &dyn Batches,
    ) -> Result<Option<StepMetrics>> {
        let Some(accumulated) = self.accumulate(objective, batches)? else { return Ok(None) };
        let RunInputs { config, params, .. } = self.inputs;
        let step = self.progress.step;
        let lr = config.optimizer.lr * config.schedule.fraction(step, config.steps);
        let finite = accumulated.loss.is_finite();
        let norm = if finite { accumulated.gradients.norm()? } else { f64::NAN };
        let missing = accumulated.gradients.missing(params);
        self.apply(&accumulated, &missing, norm, lr)?;
        self.progress.step += 1;
        self.progress.tokens += accumulated.tokens;
        self.progress.elapsed_s = self.elapsed_before_s + self.started.elapsed().as_secs_f64();
        let metrics = StepMetrics {
            step: self.progress.step,
            phase: objective.phase(step, config.steps).map(str::to_owned),
            loss: Some(accumulated.loss).filter(|loss| loss.is_finite()),
            terms: accumulated.terms,
            lr,
            grad_norm: Some(norm).filter(|norm| norm.is_finite()),
            tokens: self.progress.tokens,
            tokens_per_s: accumulated.tokens as f64
                / accumulated.started.elapsed().as_secs_f64().max(1e-9),
            elapsed_s: self.progress.elapsed_s,
            skipped: self.progress.skipped,
            params_without_gradient: missing.len(),
        };
        self.recorder.step(&metrics)?;
        self.check_finite()?;
        Ok(Some(metrics))
    }

    /// Updates the parameters, or counts the step as skipped when its gradient is not finite.
    fn apply(
        &mut self,
        accumulated: &Accumulated,
        missing: &[&str],
        norm: f64,
        lr: f64,
    ) -> Result<()> {
        if !norm.is_finite() {
            self.progress.bad_run += 1;
            self.progress.skipped += 1;
            return Ok(());
        }
        self.warn_of_missing(missing, accumulated.partial)?;
        let params = self.inputs.params;
        let (gradients, step) = (&accumulated.gradients, self.progress.step);
        match &mut self.ema {
            None => self.optimizer.step(params, gradients, norm, lr)?,
            Some(ema) => {
                self.optimizer.step_with_ema(params, gradients, norm, lr, ema, step)?;
            }
        }
        self.progress.bad_run = 0;
        self.progress.loss = accumulated.loss;
        self.progress.terms.clone_from(&accumulated.terms);
        Ok(())
    }

    /// Loss and gradients of the micro-batches of one step; None: the run was interrupted.
    fn accumulate(
        &self,
        objective: &dyn Objective,
        batches: &dyn Batches,
    ) -> Result<Option<Accumulated>> {
        let RunInputs { config, seed, params, context: run_context, .. } = self.inputs;
        let step = self.progress.step;
        let (mut gradients, mut terms) = (GradientSum::new(), BTreeMap::<String, f64>::new());
        let (mut loss, mut tokens, mut partial, started) = (0.0, 0, false, Instant::now());
        let share = 1.0 / config.accumulate as f64;
        for micro in 0..config.accumulate {
            if run_context.is_cancelled() {
                return Ok(None);
            }
            let batch = batches.batch(step * config.accumulate + micro)?;
            let context = StepContext::new(seed, step, config.steps, micro);
            let shards = in_shards(objective, &batch, &context)?;
            let share = share / shards.len() as f64;
            tokens += batch.tokens() as u64;
            for mut shard in shards {
                partial |= shard.partial;
                loss += shard.total * share;
                for (name, value) in shard.terms {
                    *terms.entry(name).or_default() += value * share;
                }
                if loss.is_finite() {
                    gradients.add(params, &mut shard.gradients)?;
                }
            }
            if !loss.is_finite() {
                break;
            }
        }
        terms.retain(|_, value| value.is_finite());
        Ok(Some(Accumulated { gradients, loss, terms, tokens, partial, started }))
    }

    /// Warns once of trainable parameters without a gradient, which may mean a broken graph.
    fn warn_of_missing(&mut self, missing: &[&str], partial: bool) -> Result<()> {
        let all = self.inputs.params.trainable().count();
        if missing.len() == all {
            return Err(Error::internal(format!(
                "none of the {all} trainable parameters got a gradient, the first is `{}`",
                missing.first().unwrap_or(&"")
            )));
        }
        if !partial && missing.len() > self.missing_warned {
            let some = missing.iter().take(4).map(|name| format!("`{name}`")).collect::<Vec<_>>();
            let more = if missing.len() > 4 { " and more" } else { "" };
            self.inputs.context.warn(&format!(
                "{} of {all} trainable parameters get no gradient at step {}: {}{more}",
                missing.len(),
                self.progress.step + 1,
                some.join(", ")
            ));
            self.missing_warned = missing.len();
        }
        Ok(())
    }

    /// Ends the run after too many steps in a row without a finite loss and gradient.
    fn check_finite(&self) -> Result<()> {
        let RunInputs { config, folder, .. } = self.inputs;
        if self.progress.bad_run < config.max_bad_steps {
            return Ok(());
        }
        let newest = match self.checkpoints.steps()?.last() {
            Some(step) => {
                format!("the last checkpoint is {}", self.checkpoints.path(*step).display())
            }
            None => "there is no checkpoint yet".to_owned(),
        };
        Err(Error::input(format!(
            "loss or gradient were not finite for {} steps in a row, up to step {}; {newest}",
            self.progress.bad_run, self.progress.step
        ))
        .at(folder.display())
        .hint(format!(
            "try train.optimizer.lr below {:e}, a longer train.schedule.warmup_steps, or a smaller \
             train.optimizer.clip_norm",
            config.optimizer.lr
        )))
    }

    /// Records the metrics of a validation.
    pub(super) fn record_validation(&mut self, metrics: &BTreeMap<String, f64>) -> Result<()> {
        self.recorder.validation(self.progress.step, metrics)
    }

    /// Saves a checkpoint of the current step, unless there is one, and gives its folder.
    pub(super) fn save(&mut self) -> Result<PathBuf> {
        let RunInputs { config, seed, params, .. } = self.inputs;
        let step = self.progress.step;
        if self.saved_step == Some(step) {
            return Ok(self.checkpoints.path(step));
        }
        let mut manifest = Manifest::new(self.progress.clone(), self.optimizer.updates());
        (manifest.seed, manifest.frozen) = (seed, self.frozen.clone());
        (manifest.config, manifest.config_hash) = fingerprint(config)?;
        let mut tensors: Vec<(String, Saved<'_>)> = params
            .trainable()
            .map(|(name, var)| (format!("parameter.{name}"), var.as_detached_tensor()))
            .map(|(name, values)| (name, Saved::Tensor(values)))
            .collect();
        tensors.extend(self.optimizer.saved(params));
        tensors.extend(self.ema.iter().flat_map(|ema| ema.saved(params)));
        let path = self.checkpoints.save(manifest, tensors)?;
        self.saved_step = Some(step);
        Ok(path)
    }
}

/// The note of a run that is resumed.
fn resumed(step: u64, steps: u64) -> String {
    if step < steps {
        return format!("resumed from step {step} of {steps}");
    }
    format!("all {steps} steps are taken: nothing is trained")
}

/// The checkpoint to resume from, if there is one and `resume` allows it.
fn checkpoint_to_resume(
    inputs: RunInputs<'_>,
    checkpoints: &Checkpoints,
    resume: Resume,
) -> Result<Option<Restored>> {
    match (resume, checkpoints.steps()?.last()) {
        (Resume::IfPresent, _) => checkpoints.latest(inputs.context),
        (Resume::Fresh, None) => Ok(None),
        (Resume::Fresh, Some(step)) => {
            Err(Error::input(format!("this folder holds a run, at step {step}"))
                .at(inputs.folder.display())
                .hint("resume it with --resume, or give another folder with --out"))
        }
    }
}
