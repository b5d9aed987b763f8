//! Distillation runs: a teacher and text in, a student and its evaluation out.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::folder::RunFolder;
use super::load::Loaded;
use super::measure::continuations;
use super::options::{Options, with_resume_hint};
use super::report::{Report, Training, write_json};
use super::{student, text};
use crate::autograd::Params;
use crate::data::{Corpus, EvaluationWindow, Split};
use crate::disk::write_atomically;
use crate::distill::init::split;
use crate::distill::{Distillation, Layers, Recompute, TeacherCache, graph_bytes};
use crate::error::{Error, Result};
use crate::eval::cost::available_bytes;
use crate::eval::{EvalConfig, StudentScore, evaluate};
use crate::hub::{StoredType, export_student};
use crate::model::{CausalLm, LoopedConfig, LoopedTransformer};
use crate::recipe::Recipe;
use crate::train::{Objective, Summary, Trainer};

/// Most tokens of a validation during training: enough to see the trend.
const VALIDATION_TOKENS: usize = 2048;

/// Carries out a recipe of distillation: teacher in, `student/` and `eval.json` out.
///
/// # Errors
/// The recipe, the teacher or the text do not fit, the folder is in use, the disk is full, or
/// the user stopped it.
pub fn distill(recipe: Recipe, options: &Options) -> Result<Report> {
    carry_out(recipe, options).map_err(with_resume_hint)
}

fn carry_out(mut recipe: Recipe, options: &Options) -> Result<Report> {
    let source = teacher_source(&recipe)?;
    let folder = RunFolder::claim(&options.out, options.existing, &mut recipe)?;
    let teacher = Loaded::read(&source, &options.context)?;
    teacher.deep()?;
    let corpus = text::corpus(&recipe.data, teacher.tokenizer()?, options)?;
    let test = text::held_out(&corpus, Split::Test, &recipe.eval)?;
    options.check_cancelled("the student was initialised")?;
    let stage = Stage { teacher: &teacher, corpus: &corpus, test: &test, options };
    let (config, params) = stage.begin(&mut recipe, &folder)?;
    let student_model = LoopedTransformer::new(&config, &params)?;
    let untrained = stage.untrained(&student_model, &recipe, &folder)?;
    options.check_cancelled("the first step")?;
    let (out, objective) = (folder.path.clone(), stage.objective(&student_model, params, &recipe)?);
    let (_lock, summary) = stage.train(&objective, &student_model, &recipe, folder)?;
    let evaluation =
        evaluate(teacher.model.lm(), Some(&student_model), &test, &recipe.eval, &options.context)?;
    let samples = continuations(
        &recipe.generate,
        teacher.tokenizer()?,
        teacher.model.lm(),
        Some(&student_model),
        &options.context,
    )?;
    options.check_cancelled("the student was exported")?;
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
    options.context.note("exporting the student");
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

/// What every part of the run uses.
struct Stage<'a> {
    teacher: &'a Loaded,
    corpus: &'a Corpus,
    test: &'a [EvaluationWindow],
    options: &'a Options,
}

impl Stage<'_> {
    /// The factorization and the initial parameters of the student. What `auto` decides is written
    /// into the recipe of the run.
    fn begin(&self, recipe: &mut Recipe, folder: &RunFolder) -> Result<(LoopedConfig, Params)> {
        let mut wanted = recipe.student();
        let tokens = wanted.calibration_tokens;
        let calibration = || text::calibration(self.corpus, recipe, tokens, self.options);
        let deep = self.teacher.deep()?;
        let searched = [wanted.prelude_layers, wanted.coda_layers]
            .iter()
            .any(|layers| matches!(layers, Layers::Auto(_)));
        let batches: Vec<Tensor> =
            if searched || !folder.has_checkpoint { calibration()? } else { Vec::new() };
        let mut config = split::find(deep, &wanted, &batches, &self.options.context)?;
        config.gate = recipe.distillation().loss.halting.map(|halting| halting.policy);
        config.validate().map_err(|error| error.at("[student] of the recipe"))?;
        self.options.context.note(&format!(
            "student: prelude {}, core {} x {}, coda {}, of {} layers",
            config.prelude_layers,
            config.core_layers,
            config.repetitions,
            config.coda_layers,
            config.base.layers
        ));
        let restored = if folder.has_checkpoint {
            student::to_restore(self.teacher, &config, &wanted, self.options)?
        } else {
            None
        };
        let params = if let Some(params) = restored {
            params
        } else {
            let batches = if batches.is_empty() { calibration()? } else { batches };
            student::initial(self.teacher, &config, &wanted, &batches, recipe.seed, self.options)?
        };
        wanted.prelude_layers = Layers::Count(config.prelude_layers);
        wanted.coda_layers = Layers::Count(config.coda_layers);
        recipe.student = Some(wanted);
        self.decide_recompute(recipe, &config);
        write_atomically(&folder.file("recipe.toml"), recipe.to_toml()?.as_bytes())?;
        Ok((config, params))
    }

    /// Resolves `recompute = "auto"`: activations of all repetitions are stored while they fit into
    /// half of the free memory. The decision stays with the run, because the sums of the two ways
    /// round differently.
    fn decide_recompute(&self, recipe: &mut Recipe, config: &LoopedConfig) {
        let mut depth = recipe.depth.unwrap_or_default();
        if depth.recompute == Recompute::Auto {
            let tokens = recipe.train.batch_rows * recipe.data.window_tokens;
            let needed = graph_bytes(config, &depth, tokens);
            let free = available_bytes().filter(|_| self.options.context.device().is_cpu());
            depth.recompute = Recompute::Never;
            if let Some(free) = free.filter(|free| needed > free / 2) {
                depth.recompute = Recompute::Always;
                let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
                self.options.context.note(&format!(
                    "activations of {:.1} GiB in {:.1} GiB of free memory: they are recomputed in \
                     the backward pass",
                    gib(needed),
                    gib(free)
                ));
            }
        }
        recipe.depth = Some(depth);
    }

    /// Scores of the student before its first step, at N repetitions: measured once, and read again
    /// by a resumed run.
    fn untrained(
        &self,
        student_model: &LoopedTransformer,
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
        let config = EvalConfig {
            repetitions: vec![student_model.config().repetitions],
            ..recipe.eval.clone()
        };
        let score = self.score(student_model, self.test, &config)?;
        self.options.context.note(&format!(
            "untrained: perplexity {:.1}, KL {:.3} nats, agreement {:.1} %",
            score.perplexity,
            score.kl_nats,
            100.0 * score.agreement
        ));
        write_json(&path, &score)?;
        Ok(score)
    }

    /// Scores of the student at the first of the configured repetitions.
    fn score(
        &self,
        student_model: &LoopedTransformer,
        windows: &[EvaluationWindow],
        config: &EvalConfig,
    ) -> Result<StudentScore> {
        let teacher = self.teacher.model.lm();
        let evaluation =
            evaluate(teacher, Some(student_model), windows, config, &self.options.context)?;
        evaluation
            .student
            .into_iter()
            .next()
            .ok_or_else(|| Error::internal("no repetitions measured"))
    }

    /// The objective, with a teacher that is computed at every step or read from the cache.
    fn objective(
        &self,
        student_model: &LoopedTransformer,
        params: Params,
        recipe: &Recipe,
    ) -> Result<Distillation<'_>> {
        let (teacher, config) = (self.teacher.deep()?.clone(), recipe.distillation());
        let temperature = config.loss.temperature as f32;
        let base = teacher.base().clone();
        let objective = Distillation::new(teacher, student_model.clone(), params, config)?;
        let cached = recipe.teacher.as_ref().filter(|teacher| !teacher.live);
        let Some(cached) = cached.and_then(|teacher| teacher.cache) else { return Ok(objective) };
        let (fingerprint, context) = (&self.teacher.checkpoint.fingerprint, &self.options.context);
        let cache = TeacherCache::open(fingerprint, cached, &base, temperature, context)?;
        Ok(objective.with_cache(cache))
    }

    /// Trains the student; the folder stays locked as long as the returned trainer lives.
    fn train<'t>(
        &self,
        objective: &Distillation<'_>,
        student_model: &LoopedTransformer,
        recipe: &'t Recipe,
        folder: RunFolder,
    ) -> Result<(Trainer<'t>, Summary)> {
        let batches = text::training_windows(self.corpus, recipe)?;
        let config = EvalConfig {
            repetitions: vec![student_model.config().repetitions],
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
            let score = self.score(student_model, &windows, &config)?;
            Ok(BTreeMap::from([
                ("perplexity".to_owned(), score.perplexity),
                ("kl_nats".to_owned(), score.kl_nats),
                ("agreement".to_owned(), score.agreement),
            ]))
        };
        let context = &self.options.context;
        let mut trainer =
            Trainer::new(&recipe.train, recipe.seed, &folder.path, context).with_lock(folder.lock);
        let summary = trainer.fit(objective, &batches, folder.resume, Some(&mut validate));
        // Cached teacher outputs are complete even when the run was stopped.
        objective.close();
        let summary = summary?;
        trainer.use_ema(objective.params())?;
        Ok((trainer, summary))
    }
}
