//! How does a teacher become a student?

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::folder::RunFolder;
use super::load::Loaded;
use super::measure::{continuations, evaluate};
use super::options::{Options, goes_on};
use super::report::{Report, Training, write_json};
use super::{student, text};
use crate::autograd::Params;
use crate::data::{Corpus, EvaluationWindow, Split};
use crate::disk::write_atomically;
use crate::distill::init::split;
use crate::distill::{CachePlace, Distillation, Layers, Recompute, TeacherCache, graph_bytes};
use crate::error::{Error, Result};
use crate::eval::cost::available_bytes;
use crate::eval::{EvalConfig, StudentScore};
use crate::hub::{StoredType, export_student};
use crate::model::{CausalLm, LoopedConfig, LoopedTransformer};
use crate::recipe::Recipe;
use crate::train::{Objective, Summary, Trainer};

/// Tokens of a validation while training: enough to see which way it goes.
const VALIDATION_TOKENS: usize = 2048;

/// Carries out a recipe of distillation: teacher in, `student/` and `eval.json` out.
///
/// # Errors
/// The recipe, the teacher or the text do not fit, the folder is in use, the disk is full, or
/// the user stopped it.
pub fn distill(recipe: Recipe, options: &Options) -> Result<Report> {
    carry_out(recipe, options).map_err(goes_on)
}

fn carry_out(mut recipe: Recipe, options: &Options) -> Result<Report> {
    let source = teacher_source(&recipe)?;
    let folder = RunFolder::claim(&options.out, options.existing, &mut recipe)?;
    let teacher = Loaded::read(&source, &options.device, options.observer, &options.interrupt)?;
    teacher.deep()?;
    let corpus = text::corpus(&recipe.data, teacher.tokenizer()?, options)?;
    let test = text::held_out(&corpus, Split::Test, &recipe.eval)?;
    options.go_on("the student was initialised")?;
    let stage = Stage { teacher: &teacher, corpus: &corpus, test: &test, options };
    let (config, params) = stage.begin(&mut recipe, &folder)?;
    let learner = LoopedTransformer::new(&config, &params)?;
    let untrained = stage.untrained(&learner, &recipe, &folder)?;
    options.go_on("the first step")?;
    let (out, objective) = (folder.path.clone(), stage.objective(&learner, params, &recipe)?);
    let (_lock, summary) = stage.train(&objective, &learner, &recipe, folder)?;
    let evaluation = evaluate(
        teacher.model.lm(),
        Some(&learner),
        &test,
        &recipe.eval,
        options.observer,
        &options.interrupt,
    )?;
    let samples = continuations(
        &recipe.generate,
        teacher.tokenizer()?,
        teacher.model.lm(),
        Some(&learner),
        options,
    )?;
    options.go_on("the student was exported")?;
    let report = Report {
        name: recipe.name.clone(),
        seed: recipe.seed,
        teacher_source: Some(source),
        teacher_fingerprint: Some(teacher.checkpoint.fingerprint.clone()),
        training: Training::from(&summary),
        evaluation,
        untrained: Some(untrained),
        samples,
    };
    options.observer.note("exporting the student");
    export_student(
        &out.join("student"),
        &config,
        &objective.params().tensors(),
        Some(teacher.tokenizer()?),
        &report.card(&recipe)?,
        StoredType::F32,
    )?;
    report.write(&out.join("eval.json"))?;
    Ok(report)
}

fn teacher_source(recipe: &Recipe) -> Result<String> {
    let named = recipe.teacher.as_ref().filter(|teacher| !teacher.source.is_empty());
    let teacher = named.ok_or_else(|| {
        Error::input("no teacher was given").hint(
            "add --teacher <folder | owner/name[@revision] | file.gguf>, or write [teacher] in \
             the recipe",
        )
    })?;
    Ok(match &teacher.revision {
        Some(revision) => format!("{}@{revision}", teacher.source),
        None => teacher.source.clone(),
    })
}

/// What every part of the run looks at.
struct Stage<'a> {
    teacher: &'a Loaded,
    corpus: &'a Corpus,
    test: &'a [EvaluationWindow],
    options: &'a Options<'a>,
}

impl Stage<'_> {
    /// The factorization, and what the student starts as. What `auto` finds is written into the
    /// recipe of the run.
    fn begin(&self, recipe: &mut Recipe, folder: &RunFolder) -> Result<(LoopedConfig, Params)> {
        let mut wanted = recipe.student();
        let tokens = wanted.calibration_tokens;
        let calibration = || text::calibration(self.corpus, recipe, tokens, self.options);
        let deep = self.teacher.deep()?;
        let finds = [wanted.prelude_layers, wanted.coda_layers]
            .iter()
            .any(|layers| matches!(layers, Layers::Found(_)));
        let seen: Vec<Tensor> =
            if finds || !folder.has_checkpoint { calibration()? } else { Vec::new() };
        let mut config = split::find(deep, &wanted, &seen, &|| self.options.interrupt.is_set())?;
        config.gate = recipe.distillation().loss.halting.map(|halting| halting.policy);
        config.validate().map_err(|error| error.at("[student] of the recipe"))?;
        self.options.observer.note(&format!(
            "student: prelude {}, core {} x {}, coda {}, of {} layers",
            config.prelude_layers,
            config.core_layers,
            config.repetitions,
            config.coda_layers,
            config.base.layers
        ));
        let begun = if folder.has_checkpoint {
            student::to_restore(self.teacher, &config, &wanted, self.options)?
        } else {
            None
        };
        let params = if let Some(params) = begun {
            params
        } else {
            let seen = if seen.is_empty() { calibration()? } else { seen };
            student::initial(self.teacher, &config, &wanted, &seen, recipe.seed, self.options)?
        };
        wanted.prelude_layers = Layers::Count(config.prelude_layers);
        wanted.coda_layers = Layers::Count(config.coda_layers);
        recipe.student = Some(wanted);
        self.decide_recompute(recipe, &config);
        write_atomically(&folder.file("recipe.toml"), recipe.to_toml()?.as_bytes())?;
        Ok((config, params))
    }

    /// Keeps the graphs of all repetitions while they fit into half of the free memory. What is
    /// decided stays with the run: the sums of both ways round differently.
    fn decide_recompute(&self, recipe: &mut Recipe, config: &LoopedConfig) {
        let mut depth = recipe.depth.unwrap_or_default();
        if depth.recompute == Recompute::Auto {
            let tokens = recipe.train.batch_rows * recipe.data.window_tokens;
            let needed = graph_bytes(config, &depth, tokens);
            let free = available_bytes().filter(|_| self.options.device.is_cpu());
            depth.recompute = Recompute::Never;
            if let Some(free) = free.filter(|free| needed > free / 2) {
                depth.recompute = Recompute::Always;
                let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
                self.options.observer.note(&format!(
                    "graphs of {:.1} GiB in {:.1} GiB of free memory: repetitions are computed \
                     anew on the way back",
                    gib(needed),
                    gib(free)
                ));
            }
        }
        recipe.depth = Some(depth);
    }

    /// The student before its first step, at N repetitions: measured once, kept for a resumed run.
    fn untrained(
        &self,
        learner: &LoopedTransformer,
        recipe: &Recipe,
        folder: &RunFolder,
    ) -> Result<StudentScore> {
        let path = folder.file("untrained.json");
        if folder.has_checkpoint
            && let Ok(text) = std::fs::read(&path)
            && let Ok(score) = serde_json::from_slice(&text)
        {
            return Ok(score);
        }
        let config =
            EvalConfig { repetitions: vec![learner.config().repetitions], ..recipe.eval.clone() };
        let score = self.score(learner, self.test, &config)?;
        self.options.observer.note(&format!(
            "untrained: perplexity {:.1}, KL {:.3} nats, agreement {:.1} %",
            score.perplexity,
            score.kl_nats,
            100.0 * score.agreement
        ));
        write_json(&path, &score)?;
        Ok(score)
    }

    /// The student at the first of the configured repetitions.
    fn score(
        &self,
        learner: &LoopedTransformer,
        windows: &[EvaluationWindow],
        config: &EvalConfig,
    ) -> Result<StudentScore> {
        let (observer, interrupt) = (self.options.observer, &self.options.interrupt);
        let teacher = self.teacher.model.lm();
        let found = evaluate(teacher, Some(learner), windows, config, observer, interrupt)?;
        found.student.into_iter().next().ok_or_else(|| Error::internal("no repetitions measured"))
    }

    /// Beside a teacher that computes every answer, or one whose answers are kept.
    fn objective(
        &self,
        learner: &LoopedTransformer,
        params: Params,
        recipe: &Recipe,
    ) -> Result<Distillation<'_>> {
        let (teacher, config) = (self.teacher.deep()?.clone(), recipe.distillation());
        let temperature = config.loss.temperature as f32;
        let base = teacher.base().clone();
        let objective = Distillation::new(teacher, learner.clone(), params, config)?;
        let kept = recipe.teacher.as_ref().filter(|teacher| !teacher.live);
        let Some(kept) = kept.and_then(|teacher| teacher.cache) else { return Ok(objective) };
        let place = CachePlace {
            folder: self.options.cache.clone(),
            limit_bytes: self.options.cache_limit_bytes,
            fingerprint: self.teacher.checkpoint.fingerprint.clone(),
        };
        let cache = TeacherCache::open(&place, kept, &base, temperature, self.options.observer)?;
        Ok(objective.with_cache(cache))
    }

    /// Trains; the folder stays locked as long as what comes first is kept.
    fn train<'t>(
        &self,
        objective: &Distillation<'_>,
        learner: &LoopedTransformer,
        recipe: &'t Recipe,
        folder: RunFolder,
    ) -> Result<(Trainer<'t>, Summary)> {
        let batches = text::training_windows(self.corpus, recipe)?;
        let config = EvalConfig {
            repetitions: vec![learner.config().repetitions],
            max_tokens: recipe.eval.max_tokens.min(VALIDATION_TOKENS),
            bootstrap_samples: 0,
            ..recipe.eval.clone()
        };
        let windows = if recipe.train.validate_every_steps > 0 {
            text::held_out(self.corpus, Split::Validation, &config)?
        } else {
            Vec::new()
        };
        let mut validate = |_step: u64| {
            let score = self.score(learner, &windows, &config)?;
            Ok(BTreeMap::from([
                ("perplexity".to_owned(), score.perplexity),
                ("kl_nats".to_owned(), score.kl_nats),
                ("agreement".to_owned(), score.agreement),
            ]))
        };
        let interrupt = self.options.interrupt.clone();
        let mut trainer =
            Trainer::new(&recipe.train, recipe.seed, &folder.path, interrupt).under(folder.lock);
        let observer = self.options.observer;
        let summary =
            trainer.fit(objective, &batches, folder.resume, Some(&mut validate), observer);
        // What the teacher said is as good when the run was stopped.
        objective.close();
        let summary = summary?;
        trainer.use_ema(objective.params())?;
        Ok((trainer, summary))
    }
}
