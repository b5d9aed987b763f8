//! What happens in one step, and between steps?

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
use super::state::{FrozenMark, Manifest, Progress, Restored};
use super::store::Saved;
use crate::autograd::Params;
use crate::context::Context;
use crate::data::Batches;
use crate::error::{Error, Result};

/// What a run is given and does not change.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) config: &'a TrainConfig,
    pub(super) seed: u64,
    pub(super) folder: &'a Path,
    pub(super) params: &'a Params,
    pub(super) context: &'a Context,
}

/// A run under way.
pub(super) struct Run<'a> {
    setting: Setting<'a>,
    optimizer: Optimizer,
    pub(super) ema: Option<Ema>,
    pub(super) progress: Progress,
    recorder: Recorder,
    checkpoints: Checkpoints,
    frozen: BTreeMap<String, FrozenMark>,
    saved_step: Option<u64>,
    started: Instant,
    elapsed_before_s: f64,
    missing_told: usize,
}

/// The micro-batches of one step.
struct Gathered {
    gradients: GradientSum,
    loss: f64,
    terms: BTreeMap<String, f64>,
    tokens: u64,
    partial: bool,
    started: Instant,
}

impl<'a> Run<'a> {
    /// Begins, or goes on from the newest checkpoint.
    pub(super) fn start(setting: Setting<'a>, resume: Resume) -> Result<Self> {
        let Setting { config, params, context, .. } = setting;
        if params.trainable().next().is_none() {
            return Err(Error::input("there is nothing to train: every parameter is frozen"));
        }
        let checkpoints = Checkpoints::new(setting.folder, config.keep_checkpoints);
        let restored = chosen(setting, &checkpoints, resume)?;
        let mut optimizer = Optimizer::new(&config.optimizer, params)?;
        for pattern in optimizer.unmatched_groups() {
            context.warn(&format!(
                "train.optimizer.groups: `{pattern}` matches no trainable parameter"
            ));
        }
        let frozen = FrozenMark::of(params)?;
        let mut progress = Progress::default();
        if let Some(restored) = &restored {
            restore((config, setting.seed), params, restored, &frozen, &mut optimizer, context)
                .map_err(|error| error.at(restored.path.display()))?;
            progress = restored.manifest.progress.clone();
        }
        let mut ema = config.ema.map(|decay| Ema::new(decay, params)).transpose()?;
        if let (Some(ema), Some(restored)) = (&mut ema, &restored) {
            ema.load(params, &restored.tensors)?;
        }
        Ok(Self {
            setting,
            optimizer,
            ema,
            recorder: Recorder::open(setting.folder, progress.step)?,
            checkpoints,
            frozen,
            saved_step: restored.map(|restored| restored.manifest.progress.step),
            started: Instant::now(),
            elapsed_before_s: progress.elapsed_s,
            progress,
            missing_told: 0,
        })
    }

    /// Takes one step; none: it was interrupted, and what was gathered is dropped.
    pub(super) fn step(
        &mut self,
        objective: &dyn Objective,
        batches: &dyn Batches,
    ) -> Result<Option<StepMetrics>> {
        let Some(gathered) = self.gather(objective, batches)? else { return Ok(None) };
        let Setting { config, params, .. } = self.setting;
        let step = self.progress.step;
        let lr = config.optimizer.lr * config.schedule.fraction(step, config.steps);
        let norm = if gathered.loss.is_finite() { gathered.gradients.norm()? } else { f64::NAN };
        let missing = gathered.gradients.missing(params);
        self.apply(&gathered, &missing, norm, lr)?;
        self.progress.step += 1;
        self.progress.tokens += gathered.tokens;
        self.progress.elapsed_s = self.elapsed_before_s + self.started.elapsed().as_secs_f64();
        let metrics = StepMetrics {
            step: self.progress.step,
            loss: Some(gathered.loss).filter(|loss| loss.is_finite()),
            terms: gathered.terms,
            lr,
            grad_norm: Some(norm).filter(|norm| norm.is_finite()),
            tokens: self.progress.tokens,
            tokens_per_s: gathered.tokens as f64
                / gathered.started.elapsed().as_secs_f64().max(1e-9),
            elapsed_s: self.progress.elapsed_s,
            skipped: self.progress.skipped,
            params_without_gradient: missing.len(),
        };
        self.recorder.step(&metrics)?;
        self.end_if_hopeless()?;
        Ok(Some(metrics))
    }

    /// Changes the parameters, or counts the step as skipped when its gradient is not finite.
    fn apply(&mut self, gathered: &Gathered, missing: &[&str], norm: f64, lr: f64) -> Result<()> {
        if !norm.is_finite() {
            self.progress.bad_run += 1;
            self.progress.skipped += 1;
            return Ok(());
        }
        self.tell_missing(missing, gathered.partial)?;
        let params = self.setting.params;
        let (gradients, step) = (&gathered.gradients, self.progress.step);
        match &mut self.ema {
            None => self.optimizer.step(params, gradients, norm, lr)?,
            Some(ema) => {
                self.optimizer.step_with_ema(params, gradients, norm, lr, (ema, step))?;
            }
        }
        self.progress.bad_run = 0;
        self.progress.loss = gathered.loss;
        self.progress.terms.clone_from(&gathered.terms);
        Ok(())
    }

    fn gather(&self, objective: &dyn Objective, batches: &dyn Batches) -> Result<Option<Gathered>> {
        let Setting { config, seed, context, params, .. } = self.setting;
        let step = self.progress.step;
        let (mut gradients, mut terms) = (GradientSum::new(), BTreeMap::<String, f64>::new());
        let (mut loss, mut tokens, mut partial, started) = (0.0, 0, false, Instant::now());
        let share = 1.0 / config.accumulate as f64;
        for micro in 0..config.accumulate {
            if context.is_cancelled() {
                return Ok(None);
            }
            let batch = batches.batch(step * config.accumulate + micro)?;
            let moment = StepContext::new(seed, step, config.steps, micro);
            let lanes = in_shards(objective, &batch, &moment)?;
            let share = share / lanes.len() as f64;
            tokens += batch.tokens() as u64;
            for mut found in lanes {
                partial |= found.partial;
                loss += found.total * share;
                for (name, value) in found.terms {
                    *terms.entry(name).or_default() += value * share;
                }
                if loss.is_finite() {
                    gradients.add(params, &mut found.gradients)?;
                }
            }
            if !loss.is_finite() {
                break;
            }
        }
        terms.retain(|_, value| value.is_finite());
        Ok(Some(Gathered { gradients, loss, terms, tokens, partial, started }))
    }

    /// A cut graph leaves parameters without gradient and nobody notices: say it once.
    fn tell_missing(&mut self, missing: &[&str], partial: bool) -> Result<()> {
        let all = self.setting.params.trainable().count();
        if missing.len() == all {
            return Err(Error::internal(format!(
                "none of the {all} trainable parameters got a gradient, the first is `{}`",
                missing.first().unwrap_or(&"")
            )));
        }
        if !partial && missing.len() > self.missing_told {
            let some = missing.iter().take(4).map(|name| format!("`{name}`")).collect::<Vec<_>>();
            let more = if missing.len() > 4 { " and more" } else { "" };
            self.setting.context.warn(&format!(
                "{} of {all} trainable parameters get no gradient at step {}: {}{more}",
                missing.len(),
                self.progress.step + 1,
                some.join(", ")
            ));
            self.missing_told = missing.len();
        }
        Ok(())
    }

    fn end_if_hopeless(&self) -> Result<()> {
        let Setting { config, folder, .. } = self.setting;
        if self.progress.bad_run < config.max_bad_steps {
            return Ok(());
        }
        let good = match self.checkpoints.steps()?.last() {
            Some(step) => {
                format!("the last checkpoint is {}", self.checkpoints.path(*step).display())
            }
            None => "there is no checkpoint yet".to_owned(),
        };
        Err(Error::input(format!(
            "loss or gradient were not finite for {} steps in a row, up to step {}; {good}",
            self.progress.bad_run, self.progress.step
        ))
        .at(folder.display())
        .hint(format!(
            "try train.optimizer.lr below {:e}, a longer train.schedule.warmup_steps, or a smaller \
             train.optimizer.clip_norm",
            config.optimizer.lr
        )))
    }

    /// Writes down what a validation found.
    pub(super) fn validated(&mut self, found: &BTreeMap<String, f64>) -> Result<()> {
        self.recorder.validation(self.progress.step, found)
    }

    /// Writes a checkpoint of where the run stands, unless there is one.
    pub(super) fn save(&mut self) -> Result<PathBuf> {
        let Setting { config, seed, params, .. } = self.setting;
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

/// The checkpoint to go on from, if there is one and it is wanted.
fn chosen(
    setting: Setting<'_>,
    checkpoints: &Checkpoints,
    resume: Resume,
) -> Result<Option<Restored>> {
    match (resume, checkpoints.steps()?.last()) {
        (Resume::IfPresent, _) => checkpoints.latest(setting.context),
        (Resume::Fresh, None) => Ok(None),
        (Resume::Fresh, Some(step)) => {
            Err(Error::input(format!("this folder holds a run, at step {step}"))
                .at(setting.folder.display())
                .hint("go on with --resume, or give another folder with --out"))
        }
    }
}
