//! Distillation runs: a recipe and a teacher in, a student and its evaluation out.

use super::folder::{RunFolder, Start};
use super::measure::continuations;
use super::options::{Options, with_resume_hint};
use super::report::{Report, Training, write_json};
use super::student::Student;
use super::teacher::Teacher;
use super::text;
use crate::context::Context;
use crate::data::{Corpus, EvaluationWindow, Split};
use crate::error::{Error, Result};
use crate::eval::{EvalConfig, Evaluation, StudentScore};
use crate::model::{CausalLm, LoopedConfig};
use crate::recipe::{DistillPlan, Recipe};

/// Carries out a recipe of distillation: teacher in, `student/` and `eval.json` out.
///
/// # Errors
/// The recipe, the teacher or the text do not fit, the folder is in use, the disk is full, or
/// the user stopped it.
pub fn distill(recipe: Recipe, options: &Options) -> Result<Report> {
    let start = Start::of(&options.out);
    carry_out(recipe, options).map_err(|error| start.undo(with_resume_hint(error)))
}

fn carry_out(recipe: Recipe, options: &Options) -> Result<Report> {
    let context = &options.context;
    let source = recipe.required_teacher()?.revised_source();
    let folder = RunFolder::claim(&options.out, options.existing, recipe.train.steps)?;
    folder.note_finished(context);
    let recipe = folder.continued(recipe)?;
    let teacher = Teacher::load(&source, context)?;
    text::check_window_tokens(teacher.checkpoint(), &recipe, context)?;
    let corpus = teacher.corpus(&recipe.data, context)?;
    let test = text::held_out(&corpus, Split::Test, &recipe.eval)?;
    options.check_cancelled("the student was initialised")?;
    let plan = teacher.plan(&recipe, &corpus, context)?;
    folder.record(&plan.to_recipe())?;
    note_factorization(&plan.factorization, context);
    let mut student = begin(&teacher, &corpus, &plan, &folder, context)?;
    let untrained = untrained(&student, &teacher, &test, &plan, &folder, context)?;
    options.check_cancelled("the first step")?;
    let (out, place) = folder.into_place();
    let (_lock, summary) = student.fit_in(place, &teacher, &corpus, &plan, context)?;
    let evaluation = student.evaluate(&teacher, &corpus, &plan.settings.eval, context)?;
    refuse_diverged(&evaluation, plan.settings.train.optimizer.lr)?;
    let samples = continuations(
        &plan.settings.generate,
        teacher.tokenizer()?,
        teacher.model(),
        Some(student.model()),
        context,
    )?;
    options.check_cancelled("the student was exported")?;
    let report = Report {
        name: plan.settings.name.clone(),
        seed: plan.settings.seed,
        teacher_source: Some(source),
        teacher_fingerprint: Some(teacher.checkpoint().fingerprint.clone()),
        provenance: Some(options.provenance.clone()),
        training: Training::from(&summary),
        evaluation,
        untrained: Some(untrained),
        samples,
    };
    context.note("exporting the student");
    student.export_with(
        &out.join("student"),
        &report.card(&plan.to_recipe(), &teacher.checkpoint().about)?,
    )?;
    report.write(&out.join("eval.json"))?;
    Ok(report)
}

/// Refuses a student whose outputs are not finite any more.
fn refuse_diverged(evaluation: &Evaluation, lr: f64) -> Result<()> {
    let trained = evaluation.trained_repetitions;
    let at_n = evaluation.student.iter().find(|score| Some(score.repetitions) == trained);
    if at_n.is_none_or(|score| score.nll_nats.is_finite()) {
        return Ok(());
    }
    Err(Error::input("the training diverged: the student's outputs are not finite")
        .at("train.optimizer.lr")
        .hint(format!(
            "try train.optimizer.lr below {lr:e}, a longer train.schedule.warmup_steps, or a \
             smaller train.optimizer.clip_norm, and begin again with --force"
        )))
}

fn note_factorization(config: &LoopedConfig, context: &Context) {
    context.note(&format!(
        "student: prelude {}, core {} x {}, coda {}, of {} layers",
        config.prelude_layers,
        config.core_layers,
        config.repetitions,
        config.coda_layers,
        config.base.layers
    ));
}

/// The student before its first step in this process.
fn begin(
    teacher: &Teacher,
    corpus: &Corpus,
    plan: &DistillPlan,
    folder: &RunFolder,
    context: &Context,
) -> Result<Student> {
    if folder.has_checkpoint {
        return Student::to_restore(teacher, corpus, plan, context);
    }
    Student::from_teacher(teacher, corpus, plan, context)
}

/// Scores of the student before its first step, at N repetitions: measured once, and read again by a
/// resumed run.
fn untrained(
    student: &Student,
    teacher: &Teacher,
    windows: &[EvaluationWindow],
    plan: &DistillPlan,
    folder: &RunFolder,
    context: &Context,
) -> Result<StudentScore> {
    let path = folder.file("untrained.json");
    if folder.has_checkpoint
        && let Ok(text) = std::fs::read(&path)
        && let Ok(score) = serde_json::from_slice(&text)
    {
        return Ok(score);
    }
    let repetitions = vec![student.model().repetitions()];
    let config = EvalConfig { repetitions, ..plan.settings.eval.clone() };
    let score = student.score(teacher, windows, &config, context)?;
    context.note(&format!(
        "untrained: perplexity {:.1}, KL {:.3} nats, agreement {:.1} %",
        score.perplexity,
        score.kl_nats,
        100.0 * score.agreement
    ));
    write_json(&path, &score)?;
    Ok(score)
}
