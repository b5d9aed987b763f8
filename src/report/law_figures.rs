//! Figures of a depth law.

use super::fitted::Fitted;
use super::groups::{grouped, ordered, over_seeds};
use super::law_data::{Cell, Control, Curve, Law, Needed};
use super::page::Item;
use super::plot::{Axis, Figure, Point, Reference, Scale, Series, Shape, Style, short, slug};
use super::read::Label;

/// What the law is held against: if r repetitions are worth r^0.46 distinct layers, as in 116 language
/// models trained from nothing (arXiv 2604.21106), depth d takes d^(1/0.46) of them.
const WORTH_OF_A_REPETITION: f64 = 0.46;

/// By which ratio the repetitions are shown.
#[derive(Clone, Copy)]
enum By {
    Depth,
    Width,
}

impl By {
    fn ratio(self, point: &Needed) -> Option<f64> {
        match self {
            Self::Depth => point.cell.depth_ratio,
            Self::Width => point.cell.width_ratio,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Depth => Self::Width,
            Self::Width => Self::Depth,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::Width => "width",
        }
    }
}

/// The repetitions that were needed, by depth and by width.
pub(super) fn needed(law: &Law) -> Vec<Item> {
    let caption = "Each mark is one student: the line spans from the last number of repetitions \
        that was too few to the first that was enough; an arrow means that none was enough. Marks \
        of one ratio stand beside each other. Dashed lines pass through the middle of the marks: \
        only their slopes say something.";
    // Teachers of several tasks may differ in depth where the cores of one do not.
    let one_task = law.points.windows(2).all(|pair| pair[0].cell.task == pair[1].cell.task);
    let task = |point: &Needed| {
        if one_task { point.cell.task.clone() } else { Label("all tasks".into()) }
    };
    let key = |point: &Needed| Cell { task: task(point), ..point.cell.clone() }.panel_name();
    let mut panels = grouped(&law.points, key);
    if panels.is_empty() {
        panels.push(Default::default());
    }
    let mut items = Vec::new();
    for (by, exponent) in [(By::Depth, law.exponent), (By::Width, law.width_exponent)] {
        for (at, (panel, points)) in panels.iter().enumerate() {
            // What is fitted belongs to the first.
            let fitted = exponent.filter(|_| at == 0);
            items.push(Item::figure(ratio_figure(by, fitted, at + 1, panel, points), caption));
        }
    }
    items
}

fn ratio_figure(
    by: By,
    exponent: Option<Fitted>,
    at: usize,
    panel: &str,
    points: &[&Needed],
) -> Figure {
    let other = by.other();
    let series = grouped(points.iter().copied(), |point| ordered(other.ratio(point)));
    let series = series.into_iter().map(|(_, points)| {
        let ratio = points.first().and_then(|point| other.ratio(point));
        let range =
            |point: &&Needed| Point::censored(by.ratio(point), point.needed.low, point.needed.high);
        Series {
            name: format!("{} ratio {}", other.name(), ratio.map_or("unknown".into(), short)),
            style: Style::Markers,
            points: points.iter().map(range).collect(),
        }
    });
    let series: Vec<Series> = series.collect();
    let title = format!("Repetitions needed by {} ratio: {panel}", by.name());
    Figure {
        name: slug(&format!("law {} {at} {panel}", by.name())),
        title: title.trim_end_matches([':', ' ']).to_owned(),
        x: Axis::new(format!("{} of teacher / {} of student", by.name(), by.name()), Scale::Log2),
        y: Axis::new("repetitions needed", Scale::Log2),
        references: slopes(by, exponent, &series),
        series,
    }
}

/// The fitted law, and the slopes it is held against.
fn slopes(by: By, exponent: Option<Fitted>, series: &[Series]) -> Vec<Reference> {
    let Some(through) = middle(series) else { return Vec::new() };
    let line =
        |name: String, exponent: f64| Reference { name, shape: Shape::Power { exponent, through } };
    let fitted = exponent.and_then(|found| found.estimate);
    let mut lines: Vec<Reference> = fitted
        .map(|slope| line(format!("fitted, slope {}", short(slope)), slope))
        .into_iter()
        .collect();
    if let By::Depth = by {
        let worth = 1.0 / WORTH_OF_A_REPETITION;
        lines.push(line("slope 1".to_owned(), 1.0));
        lines.push(line(format!("slope 1/0.46 = {}", short(worth)), worth));
    }
    lines
}

/// The geometric mean of all marks.
fn middle(series: &[Series]) -> Option<(f64, f64)> {
    let logs: Vec<(f64, f64)> = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| (point.x.ln(), point.y.ln()))
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .collect();
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| (logs.iter().map(of).sum::<f64>() / count).exp();
    (count > 0.0).then(|| (mean(|log| log.0), mean(|log| log.1)))
}

/// Accuracy and KL by repetitions.
pub(super) fn quality(law: &Law) -> Vec<Item> {
    let caption = "Each line is the mean over the seeds of one student; whiskers span from the \
        lowest to the highest seed.";
    let mut items = Vec::new();
    let of_the_grid = law.curves.iter().filter(|curve| curve.cell.is_of_the_grid());
    for (at, (_, curves)) in grouped(of_the_grid, |curve| curve.cell.panel()).iter().enumerate() {
        let accuracy = quality_figure(at + 1, curves, "Accuracy", |curve| &curve.accuracy);
        let references = levels(law, curves);
        items.push(Item::figure(Figure { references, ..accuracy }, caption));
        let kl = quality_figure(at + 1, curves, "KL (nats per token)", |curve| &curve.kl_nats);
        items.push(Item::figure(kl, caption));
    }
    items
}

fn quality_figure(
    at: usize,
    curves: &[&Curve],
    quality: &str,
    values: fn(&Curve) -> &Vec<Option<f64>>,
) -> Figure {
    let cells = grouped(curves.iter().copied(), |curve| {
        let cell = &curve.cell;
        (
            ordered(cell.depth_ratio),
            ordered(cell.width_ratio),
            cell.student.clone(),
            cell.teacher.clone(),
        )
    });
    let series = cells.into_iter().map(|(_, seeds)| Series {
        name: seeds.first().map(|curve| student_name(curve)).unwrap_or_default(),
        style: Style::LineMarkers,
        points: mean_curve(&seeds, values),
    });
    let panel = curves.first().map(|curve| curve.cell.panel_name()).unwrap_or_default();
    Figure {
        name: slug(&format!("law quality {at} {quality} {panel}")),
        title: format!("{quality} by repetitions: {panel}"),
        x: Axis::new("repetitions", Scale::Log2),
        y: Axis::new(quality, Scale::Linear),
        series: series.collect(),
        references: Vec::new(),
    }
}

fn student_name(curve: &Curve) -> String {
    let cell = &curve.cell;
    let ratio = |ratio: Option<f64>| ratio.map_or("?".to_owned(), short);
    let ratios =
        format!("depth 1/{}, width 1/{}", ratio(cell.depth_ratio), ratio(cell.width_ratio));
    if cell.student.0.is_empty() { ratios } else { format!("{} ({ratios})", cell.student) }
}

fn mean_curve(seeds: &[&Curve], values: fn(&Curve) -> &Vec<Option<f64>>) -> Vec<Point> {
    let measured: Vec<(Option<f64>, Option<f64>)> = seeds
        .iter()
        .flat_map(|curve| curve.repetitions.iter().copied().zip(values(curve).iter().copied()))
        .collect();
    let by_repetitions = grouped(&measured, |pair| ordered(pair.0));
    by_repetitions
        .into_iter()
        .filter_map(|(_, pairs)| {
            let mean = over_seeds(pairs.iter().map(|pair| pair.1))?;
            Some(Point::new(pairs.first()?.0, mean.estimate).between(mean.low, mean.high))
        })
        .collect()
}

/// How good the teachers are, and chance.
fn levels(law: &Law, curves: &[&Curve]) -> Vec<Reference> {
    let level = |curve: &Curve| ordered(curve.teacher_accuracy);
    let teachers = grouped(curves.iter().copied(), level).into_iter().filter_map(|(_, curves)| {
        let accuracy = curves.first()?.teacher_accuracy?;
        let name = format!("teacher, {}", short(accuracy));
        Some(Reference { name, shape: Shape::Level(accuracy) })
    });
    let task = curves.first().map(|curve| &curve.cell.task);
    let baseline = law.baselines.iter().find(|baseline| Some(&baseline.task) == task);
    let chance = baseline.and_then(|baseline| baseline.chance).map(Shape::Level);
    let chance = chance.map(|shape| Reference { name: "chance".to_owned(), shape });
    teachers.chain(chance).collect()
}

/// What models do that repeat nothing.
pub(super) fn controls(law: &Law) -> Option<Item> {
    let ratios = |control: &Control| (ordered(control.depth_ratio), ordered(control.width_ratio));
    let alike = law.controls.windows(2).all(|pair| ratios(&pair[0]) == ratios(&pair[1]));
    let name = |control: &Control| {
        let ratio = |ratio: Option<f64>| ratio.map_or("?".to_owned(), short);
        let (depth, width) = (ratio(control.depth_ratio), ratio(control.width_ratio));
        if alike {
            control.name.0.clone()
        } else {
            format!("{} (1/{depth}, 1/{width})", control.name)
        }
    };
    let names: Vec<String> =
        grouped(&law.controls, name).into_iter().map(|(name, _)| name).collect();
    let series = grouped(&law.controls, |control| control.task.clone()).into_iter().map(
        |(task, controls)| {
            let bar = |(at, label): (usize, &String)| {
                let seeds = controls.iter().filter(|control| name(control) == *label);
                let mean = over_seeds(seeds.map(|control| control.accuracy))?;
                Some(Point::new(at as f64, mean.estimate).between(mean.low, mean.high))
            };
            let points = names.iter().enumerate().filter_map(bar).collect();
            Series { name: task.0, style: Style::Bars, points }
        },
    );
    let figure = Figure {
        name: "law-controls".to_owned(),
        title: "Accuracy of the controls".to_owned(),
        series: series.collect(),
        x: Axis::new(
            if alike { "control" } else { "control (depth and width, of the teacher's)" },
            Scale::Categories(names),
        ),
        y: Axis::new("accuracy", Scale::Linear),
        references: Vec::new(),
    };
    let caption = "Bars are means over seeds; whiskers span from the lowest to the highest seed.";
    (!law.controls.is_empty()).then(|| Item::figure(figure, caption))
}
