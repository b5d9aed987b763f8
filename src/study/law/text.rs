//! Distillation of a teacher of text for a depth law.

use crate::error::{Error, Result};
use crate::eval::{Interval, StudentScore};
use crate::recipe::Source;
use crate::run::{Existing, Options, distill};
use crate::study::sweep::job::{Measured, Role, TextJob};
use crate::study::sweep::work::{Work, tidy};

pub(crate) fn learn(job: &TextJob, work: &Work) -> Result<Measured> {
    let set = |key: &str, value: String| format!("{key}={value}");
    let mut sets = job.text.set.clone();
    sets.extend([
        set("student.core_layers", job.core_layers.to_string()),
        set("student.repetitions", job.repetitions.to_string()),
        set("train.steps", job.steps.to_string()),
        set("eval.repetitions", format!("{:?}", job.read_at)),
    ]);
    if job.width != job.teacher_width {
        sets.push(set("student.width", job.width.to_string()));
        // What is projected is not what its teacher had: nothing of it stays.
        sets.push("student.frozen=[]".to_owned());
        sets.push("phases={ teacher_forced = 0.0, scheduled_until = 0.0 }".to_owned());
    }
    if job.role == Role::RandomN {
        let law = format!("{{ kind = \"uniform\", least = 1, most = {} }}", job.repetitions);
        sets.push(set("depth.sampling", law));
    }
    let recipe = Source {
        path: job.text.recipe.clone().into(),
        set: sets,
        teacher: Some(job.text.teacher.clone()),
        seed: Some(job.seed),
        ..Source::default()
    };
    let options = Options {
        out: work.folder.join("run"),
        existing: Existing::Resume,
        ..work.options.clone()
    };
    let report = distill(recipe.read()?, &options)?;
    let found = &report.evaluation;
    let cost = found.student_cost.as_ref();
    let cost = cost.ok_or_else(|| Error::internal("a distillation without a student"))?;
    tidy(&options.out)?;
    Ok(Measured { block_parameters: cost.parameters.blocks, ..measured(&found.student) })
}

/// What `evaluate` says of a student, in the terms of a study; on text, answers have no accuracy.
fn measured(scores: &[StudentScore]) -> Measured {
    let bound = |interval: Option<Interval>, of: fn(Interval) -> f64, else_: f64| {
        interval.map_or(else_, of)
    };
    Measured {
        repetitions: scores.iter().map(|score| score.repetitions).collect(),
        nll_nats: scores.iter().map(|score| score.nll_nats).collect(),
        agreement: scores.iter().map(|score| score.agreement).collect(),
        kl_nats: scores.iter().map(|score| score.kl_nats).collect(),
        agreement_low: scores
            .iter()
            .map(|score| bound(score.agreement_interval, |found| found.low, score.agreement))
            .collect(),
        kl_high: scores
            .iter()
            .map(|score| bound(score.kl_interval, |found| found.high, score.kl_nats))
            .collect(),
        ..Measured::default()
    }
}
