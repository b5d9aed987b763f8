//! The section of a page on the steps of training.

use std::collections::BTreeMap;
use std::path::Path;

use super::page::Item;
use super::plot::{Axis, Figure, Point, Reference, Scale, Series, Shape, Style, slug};
use super::read::{Found, lines};
use super::run_data::MetricsLine;

/// A line has at most as many points: more than a picture has room for.
const MOST: usize = 200;
/// Terms between 0 and 1 that say how alike the models are, not what is lost.
const ALIKE: [&str; 2] = ["agreement", "cosine"];
/// Terms that say what was done.
const SETTINGS: [&str; 1] = ["repetitions"];
/// The term that says when a gate that learns stops tokens.
const STOPS: &str = "halting_repetitions";

/// Values by step, by what they are.
type Curves<'a> = BTreeMap<&'a str, Vec<(f64, f64)>>;

/// The curves of `metrics.jsonl`, if the folder has one.
pub(super) fn compose(folder: &Path) -> Option<Vec<Item>> {
    let mut items = vec![Item::Heading("Training".into())];
    let (steps, unreadable) = match lines::<MetricsLine>(&folder.join("metrics.jsonl")) {
        Found::Absent => return None,
        Found::Damaged(why) => {
            items.push(Item::Note(why));
            return Some(items);
        }
        Found::Whole(read) => read,
    };
    if unreadable > 0 {
        items.push(Item::Note(format!("{unreadable} lines of metrics.jsonl cannot be read.")));
    }
    let caption = "Each point is the mean of neighbouring steps; the surface spans from their \
        least to their largest value.";
    let terms = |wanted: &dyn Fn(&str) -> bool| curves(&steps, wanted, |step| &step.terms);
    let alike = |name: &str| ALIKE.contains(&name);
    let lost = |name: &str| !alike(name) && !SETTINGS.contains(&name) && name != STOPS;
    let mut losses = terms(&lost);
    losses.insert("loss", points(&steps, |step| step.loss));
    let mut loss = figure("Loss and its terms", "nats or as defined", &losses);
    loss.references = phases(&steps);
    let jumps = " Where another phase begins the loss is another function.";
    let jumps = if loss.references.is_empty() { "" } else { jumps };
    items.push(Item::figure(loss, &format!("{caption}{jumps}")));
    let optional = [
        ("Likeness to the teacher", "share or cosine", terms(&alike)),
        ("When the gate stops tokens", "repetitions", terms(&|name| name == STOPS)),
        ("Validation", "value", curves(&steps, &|_| true, |step| &step.validation)),
    ];
    for (title, unit, curves) in optional {
        if !curves.is_empty() {
            items.push(Item::figure(figure(title, unit, &curves), caption));
        }
    }
    Some(items)
}

/// An upright line where each phase but the first begins.
fn phases(steps: &[MetricsLine]) -> Vec<Reference> {
    let named = steps.iter().filter_map(|step| Some((step.step?, step.phase.as_ref()?)));
    let named: Vec<(f64, &String)> = named.collect();
    let begins = named.windows(2).filter(|pair| pair[0].1 != pair[1].1);
    let line = |pair: &[(f64, &String)]| Reference {
        name: format!("{} phase", pair[1].1),
        shape: Shape::Upright(pair[1].0),
    };
    begins.map(line).collect()
}

fn points(steps: &[MetricsLine], value: impl Fn(&MetricsLine) -> Option<f64>) -> Vec<(f64, f64)> {
    steps.iter().filter_map(|step| Some((step.step?, value(step)?))).collect()
}

fn curves<'a>(
    steps: &'a [MetricsLine],
    wanted: &dyn Fn(&str) -> bool,
    values: fn(&MetricsLine) -> &BTreeMap<String, f64>,
) -> Curves<'a> {
    let names = steps.iter().flat_map(|step| values(step).keys()).map(String::as_str);
    let names: std::collections::BTreeSet<&str> = names.filter(|name| wanted(name)).collect();
    let curve = |name| (name, points(steps, |step| values(step).get(name).copied()));
    names.into_iter().map(curve).collect()
}

fn figure(title: &str, unit: &str, curves: &Curves) -> Figure {
    let values = || curves.values().flatten().map(|point| point.1);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let scale = if low > 0.0 && high / low > 10.0 { Scale::Log10 } else { Scale::Linear };
    let series = curves.iter().map(|(name, points)| Series {
        name: (*name).to_owned(),
        style: Style::Band,
        points: thinned(points),
    });
    Figure {
        name: format!("run-{}", slug(title)),
        title: title.to_owned(),
        x: Axis::new("step", Scale::Linear),
        y: Axis::new(unit, scale),
        series: series.collect(),
        references: Vec::new(),
    }
}

/// Neighbouring steps together, each group with its mean and its ends.
fn thinned(points: &[(f64, f64)]) -> Vec<Point> {
    let together = points.len().div_ceil(MOST).max(1);
    let group = |group: &[(f64, f64)]| {
        let mean =
            |of: fn(&(f64, f64)) -> f64| group.iter().map(of).sum::<f64>() / group.len() as f64;
        let ends = group.iter().map(|point| point.1);
        let (low, high) = (ends.clone().reduce(f64::min), ends.reduce(f64::max));
        Point::new(mean(|point| point.0), mean(|point| point.1)).between(low, high)
    };
    points.chunks(together).map(group).collect()
}
