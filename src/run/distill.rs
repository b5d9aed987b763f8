//! Distillation runs: a recipe and a teacher in, a student and its evaluation out.

use super::folder::RunFolder;
use super::measure::continuations;
use super::options::{Options, with_resume_hint};
use super::report::{Report, Training, write_json};
use super::student::Student;
use super::teacher::Teacher;
use super::text;
use crate::context::Context;
use crate::data::{Corpus, EvaluationWindow, Split};
use crate::error::Result;
use crate::eval::{EvalConfig, StudentScore};
use crate::model::{CausalLm, LoopedConfig};
use crate::recipe::{DistillPlan, Recipe};

/// Carries out a recipe of distillation: teacher in, `student/` and `eval.json` out.
///
/// # Errors
/// The recipe, the teacher or the text do not fit, the folder is in use, the disk is full, or
/// the user stopped it.
pub fn distill(recipe: Recipe, options: &Options) -> Result<Report> {
    carry_out(recipe, options).map_err(with_resume_hint)
}

fn carry_out(recipe: Recipe, options: &Options) -> Result<Report> {
    let context = &options.context;
    let source = recipe.required_teacher()?.revised_source();
    let folder = RunFolder::claim(&options.out, options.existing, recipe.train.steps)?;
    let recipe = folder.continued(recipe)?;
    let teacher = Teacher::load(&source, context)?;
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
        training: Training::from(&summary),
        evaluation,
        untrained: Some(untrained),
        samples,
    };
    context.note("exporting the student");
    student.export_with(&out.join("student"), &report.card(&plan.to_recipe())?)?;
    report.write(&out.join("eval.json"))?;
    Ok(report)
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
