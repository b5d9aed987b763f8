//! The page of a halting study.

use std::path::Path;

use serde::Deserialize;

use super::header::{Header, cell};
use super::page::{Item, Section};
use super::plot::{Axis, Figure, Point, Reference, Scale, Series, Shape, Style, slug};
use super::read::{Found, Label, json};
use super::table::{Cell, Column, Table};

/// What `exits.json` says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Study {
    #[serde(flatten)]
    header: Header,
    learners: Vec<Learner>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Learner {
    task: Label,
    told: Label,
    seeds: Vec<Option<f64>>,
    mean: Exits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Exits {
    lengths: Vec<AtLength>,
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AtLength {
    length: Option<f64>,
    right: Vec<Option<f64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    name: Label,
    threshold: Option<f64>,
    mean_repetitions: Option<f64>,
    right: Option<f64>,
    changed: Option<f64>,
    stops: Vec<Option<f64>>,
    rank_correlation: Option<f64>,
}

/// The part of the page about `exits.json`, if the folder has one.
pub(super) fn compose(folder: &Path) -> Option<Section> {
    let title = "Exit step against known difficulty";
    let study: Study = match json(&folder.join("exits.json")) {
        Found::Absent => return None,
        Found::Damaged(why) => {
            return Some(Section { title: title.into(), items: vec![Item::Note(why)] });
        }
        Found::Whole(study) => study,
    };
    let mut items = study.header.notes();
    if study.learners.is_empty() {
        items.push(Item::Note("No learner is done yet.".into()));
    }
    items.push(by_task(&study.learners));
    for (at, learner) in study.learners.iter().enumerate() {
        items.extend(told(at + 1, learner));
    }
    items.extend(study.header.origin());
    Some(Section { title: format!("{title}: {}", study.header.name), items })
}

fn told(at: usize, learner: &Learner) -> Vec<Item> {
    let (seeds, s) = (learner.seeds.len(), if learner.seeds.len() == 1 { "" } else { "s" });
    vec![
        Item::Heading(format!("{}, told {}: {seeds} seed{s}", learner.task, learner.told)),
        Item::figure(
            stops(at, learner),
            "Mean repetition at which the places of test examples stop, by the length of their \
             chain. The oracle stops as soon as the answer never changes.",
        ),
        Item::figure(
            right(at, learner),
            "Places answered right when all stop after the same repetition, a line a length.",
        ),
        rules(learner),
    ]
}

/// A line for the oracle and each policy.
fn stops(at: usize, learner: &Learner) -> Figure {
    let line = |rule: &Rule| {
        let lengths = learner.mean.lengths.iter().map(|at| at.length);
        let points = lengths.zip(&rule.stops).map(|(length, &stop)| Point::new(length, stop));
        let (name, style) = (rule.name.to_string(), Style::LineMarkers);
        Series { name, style, points: points.collect() }
    };
    let diagonal = Shape::Power { exponent: 1.0, through: (1.0, 1.0) };
    Figure {
        name: slug(&format!("exits {at} {} {}", learner.task, learner.told)),
        title: format!("{}, told {}", learner.task, learner.told),
        x: Axis::new("steps of the chain", Scale::Linear),
        y: Axis::new("repetition at which a place stops", Scale::Linear),
        series: learner.mean.rules.iter().filter(|rule| chooses(rule)).map(line).collect(),
        references: vec![Reference { name: "a repetition a step".into(), shape: diagonal }],
    }
}

/// The length is the diagonal, and all repetitions are the frame.
fn chooses(rule: &Rule) -> bool {
    !["all repetitions", "length of the chain"].contains(&rule.name.0.as_str())
}

fn right(at: usize, learner: &Learner) -> Figure {
    let line = |at: &AtLength| Series {
        name: format!("{} steps", cell(at.length)),
        style: Style::LineMarkers,
        points: at.right.iter().zip(1_u32..).map(|(&y, x)| Point::new(f64::from(x), y)).collect(),
    };
    Figure {
        name: slug(&format!("exits {at} right {} {}", learner.task, learner.told)),
        title: format!("{}, told {}: answers by repetition", learner.task, learner.told),
        x: Axis::new("repetitions", Scale::Linear),
        y: Axis::new("share of places answered right", Scale::Linear),
        series: learner.mean.lengths.iter().map(line).collect(),
        references: Vec::new(),
    }
}

/// Rules beside one another, a column a task: each with what it spares and what it costs.
fn by_task(learners: &[Learner]) -> Item {
    let mut names: Vec<&Label> = Vec::new();
    for rule in learners.iter().flat_map(|learner| &learner.mean.rules) {
        if !names.contains(&&rule.name) {
            names.push(&rule.name);
        }
    }
    let row = |name: &Label| {
        let cell = |learner: &Learner| {
            let rule = learner.mean.rules.iter().find(|rule| rule.name == *name);
            rule.map_or(Cell::Missing, |rule| Cell::Text(in_brief(rule)))
        };
        std::iter::once(Cell::Text(name.to_string())).chain(learners.iter().map(cell)).collect()
    };
    let heads = learners.iter().map(|of| Column::new(&format!("{}, {}", of.task, of.told)));
    let columns = std::iter::once(Column::new("rule")).chain(heads).collect();
    let caption = "Mean repetitions, rank correlation with the length, answers changed";
    Item::Table(Table::new("by-task", caption, columns, names.into_iter().map(row).collect()))
}

fn in_brief(rule: &Rule) -> String {
    let fixed = |value: Option<f64>| value.map(|value| format!("{value:.2}"));
    let changed = rule.changed.map(|share| format!("{:.1} %", 100.0 * share));
    let parts = [fixed(rule.mean_repetitions), fixed(rule.rank_correlation), changed];
    parts.map(|part| part.unwrap_or_else(|| "–".to_owned())).join(", ")
}

fn rules(learner: &Learner) -> Item {
    let row = |rule: &Rule| {
        vec![
            rule.name.to_string().into(),
            rule.threshold.into(),
            rule.mean_repetitions.into(),
            rule.right.into(),
            rule.changed.into(),
            rule.rank_correlation.into(),
        ]
    };
    let columns = vec![
        Column::new("rule"),
        Column::fixed("threshold", 4),
        Column::fixed("mean repetitions", 2),
        Column::percent("right"),
        Column::percent("answers changed"),
        Column::fixed("rank correlation with the length", 2),
    ];
    let rows = learner.mean.rules.iter().map(row).collect();
    Item::Table(Table::new("rules", "Every rule over all places", columns, rows))
}
