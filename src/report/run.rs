//! The page of a run.

use std::path::Path;

use super::header::{cell, fitted, interval, known, provenance};
use super::page::{Item, Section};
use super::read::{Found, json, text};
use super::run_figures::{costs, motion, quality, scores};
use super::{halting, policies, training};
use crate::eval::ModelCost;
use crate::run::Report;

/// The part of the page about a run, if the folder is one.
pub(super) fn compose(folder: &Path) -> Option<Section> {
    let report = json::<Report>(&folder.join("eval.json"));
    let steps = training::compose(folder);
    let mut title = "Distillation".to_owned();
    let mut items = Vec::new();
    match report {
        Found::Absent if steps.is_none() => return None,
        Found::Absent => {
            items.push(Item::Note("There is no eval.json yet: this run is not finished.".into()));
        }
        Found::Damaged(why) => items.push(Item::Note(why)),
        Found::Whole(found) => {
            title = format!("Distillation: {}", found.name);
            items.extend(evaluated(&found));
            items.extend(policies::compose(folder));
        }
    }
    let missing = || {
        vec![Item::Text("There is no metrics.jsonl, so the curves of training are missing.".into())]
    };
    items.extend(steps.unwrap_or_else(missing));
    items.extend(halting::compose(folder));
    items.push(match text(&folder.join("recipe.toml")) {
        Found::Whole(recipe) => Item::Verbatim("Recipe".into(), recipe),
        Found::Damaged(why) => Item::Note(why),
        Found::Absent => Item::Text("There is no recipe.toml in this folder.".into()),
    });
    Some(Section { title, items })
}

fn evaluated(report: &Report) -> Vec<Item> {
    let evaluation = &report.evaluation;
    let mut items = vec![Item::Numbers(numbers(report))];
    if evaluation.student.is_empty() {
        items.push(Item::Note("eval.json says nothing of a student.".into()));
    } else {
        items.extend(quality(evaluation));
    }
    items.push(scores(report));
    items.extend(motion(evaluation));
    items.extend(costs(evaluation));
    let samples = report.samples.iter().enumerate().map(|(at, sample)| {
        let told = format!(
            "{}\n\nteacher:{}\n\nstudent:{}",
            sample.prompt,
            sample.teacher,
            sample.student.as_deref().unwrap_or_default()
        );
        Item::Verbatim(format!("Continuations of the prompt {}", at + 1), told)
    });
    items.extend(samples);
    items.extend(report.provenance.as_ref().map(provenance));
    items
}

fn numbers(report: &Report) -> Vec<(String, String)> {
    let evaluation = &report.evaluation;
    let trained = evaluation.trained_repetitions;
    let at_n = evaluation.student.iter().find(|score| Some(score.repetitions) == trained);
    let teacher = &evaluation.teacher;
    let blocks =
        |cost: &ModelCost| Some(cost.parameters.blocks as f64).filter(|count| *count > 0.0);
    let ratio =
        evaluation.student_cost.as_ref().and_then(blocks).zip(blocks(&evaluation.teacher_cost));
    let mut numbers = vec![
        ("teacher".to_owned(), report.teacher_source.clone().unwrap_or_default()),
        (
            "perplexity of the teacher".to_owned(),
            interval(fitted(teacher.perplexity, teacher.perplexity_interval)),
        ),
        ("N, repetitions trained for".to_owned(), cell(trained.map(|n| n as f64))),
        (
            "blocks, of the teacher's".to_owned(),
            cell(ratio.map(|(student, teacher)| student / teacher)),
        ),
    ];
    if let Some(score) = at_n {
        numbers.push((
            "perplexity at N".to_owned(),
            interval(fitted(score.perplexity, score.perplexity_interval)),
        ));
        numbers.push(("KL at N, nats per token".to_owned(), cell(known(score.kl_nats))));
        numbers.push(("agreement at N".to_owned(), cell(known(score.agreement))));
    }
    let training = &report.training;
    numbers.push(("steps".to_owned(), cell(Some(training.steps as f64))));
    numbers.push(("tokens".to_owned(), cell(Some(training.tokens as f64))));
    numbers.push(("seconds of training".to_owned(), cell(Some(training.seconds.round()))));
    numbers.push(("steps skipped".to_owned(), cell(Some(training.skipped as f64))));
    numbers.push(("most memory, MiB".to_owned(), cell(evaluation.peak_rss_mib.map(f64::round))));
    numbers
}
