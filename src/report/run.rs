//! The page of a run.

use std::path::Path;

use super::fitted::Fitted;
use super::header::{cell, interval, provenance};
use super::page::{Item, Section};
use super::read::{Found, json, text};
use super::run_data::{Cost, Ends, Evaluation};
use super::run_figures::{costs, motion, quality, scores};
use super::{halting, policies, training};

/// The part of the page about a run, if the folder is one.
pub(super) fn compose(folder: &Path) -> Option<Section> {
    let evaluation = json::<Evaluation>(&folder.join("eval.json"));
    let steps = training::compose(folder);
    let mut title = "Distillation".to_owned();
    let mut items = Vec::new();
    match evaluation {
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

fn evaluated(found: &Evaluation) -> Vec<Item> {
    let mut items = vec![Item::Numbers(numbers(found))];
    if found.student.is_empty() {
        items.push(Item::Note("eval.json says nothing of a student.".into()));
    } else {
        items.extend(quality(found));
    }
    items.push(scores(found));
    items.extend(motion(found));
    items.extend(costs(found));
    let samples = found.samples.iter().enumerate().map(|(at, sample)| {
        let told = format!(
            "{}\n\nteacher:{}\n\nstudent:{}",
            sample.prompt, sample.teacher, sample.student
        );
        Item::Verbatim(format!("Continuations of the prompt {}", at + 1), told)
    });
    items.extend(samples);
    items.extend(found.provenance.as_ref().map(provenance));
    items
}

fn numbers(found: &Evaluation) -> Vec<(String, String)> {
    let at_n = found.student.iter().find(|score| score.repetitions == found.trained_repetitions);
    let perplexity =
        |value, ends: Ends| interval(Fitted { estimate: value, low: ends.low, high: ends.high });
    let blocks = |cost: &Option<Cost>| cost.as_ref()?.parameters.blocks;
    let ratio = blocks(&found.student_cost).zip(blocks(&found.teacher_cost));
    let mut numbers = vec![
        ("teacher".to_owned(), found.teacher_source.to_string()),
        (
            "perplexity of the teacher".to_owned(),
            perplexity(found.teacher.perplexity, found.teacher.perplexity_interval),
        ),
        ("N, repetitions trained for".to_owned(), cell(found.trained_repetitions)),
        (
            "blocks, of the teacher's".to_owned(),
            cell(ratio.map(|(student, teacher)| student / teacher)),
        ),
    ];
    if let Some(score) = at_n {
        numbers.push((
            "perplexity at N".to_owned(),
            perplexity(score.perplexity, score.perplexity_interval),
        ));
        numbers.push(("KL at N, nats per token".to_owned(), cell(score.kl_nats)));
        numbers.push(("agreement at N".to_owned(), cell(score.agreement)));
    }
    if let Some(training) = &found.training {
        numbers.push(("steps".to_owned(), cell(training.steps)));
        numbers.push(("tokens".to_owned(), cell(training.tokens)));
        numbers.push(("seconds of training".to_owned(), cell(training.seconds.map(f64::round))));
        numbers.push(("steps skipped".to_owned(), cell(training.skipped)));
    }
    numbers.push(("most memory, MiB".to_owned(), cell(found.peak_rss_mib.map(f64::round))));
    numbers
}
