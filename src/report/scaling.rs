//! The page of a scaling study.

use std::path::Path;

use super::groups::grouped;
use super::header::interval;
use super::page::{Item, Section};
use super::plot::{Axis, Figure, Point, Scale, Series, Style, short, slug};
use super::read::{Found, json};
use super::scaling_data::{Law, Measured, Scaling};
use super::scaling_points;
use super::table::{Cell, Column, Table};

/// The part of the page about `scaling.json`, if the folder has one.
pub(super) fn compose(folder: &Path) -> Option<Section> {
    let scaling: Scaling = match json(&folder.join("scaling.json")) {
        Found::Absent => return None,
        Found::Damaged(why) => {
            return Some(Section { title: "Scaling laws".into(), items: vec![Item::Note(why)] });
        }
        Found::Whole(scaling) => scaling,
    };
    let mut items = scaling.header.notes();
    if scaling.laws.is_empty() {
        items.push(Item::Note("No law was measured yet.".into()));
    }
    items.push(summary(&scaling.laws));
    items.extend(scaling_points::tables(&scaling.laws));
    for (at, law) in scaling.laws.iter().enumerate() {
        items.extend(told(at + 1, law));
    }
    items.extend(scaling.header.origin());
    Some(Section { title: format!("Scaling laws: {}", scaling.header.name), items })
}

/// A row a law.
fn summary(laws: &[Law]) -> Item {
    let rows = laws.iter().map(|law| {
        vec![
            law.name.to_string().into(),
            law.question.to_string().into(),
            law.parameter.to_string().into(),
            law.estimate.into(),
            law.form.to_string().into(),
            Cell::Number(law.points.len() as f64),
        ]
    });
    let columns = vec![
        Column::new("law"),
        Column::new("question"),
        Column::new("parameter"),
        Column::fixed("estimate (95 % CI)", 2),
        Column::new("form"),
        Column::new("points"),
    ];
    Item::Table(Table::new("laws", "All laws", columns, rows.collect()))
}

/// One law: its picture, what else could explain it, and what is to be said.
fn told(at: usize, law: &Law) -> Vec<Item> {
    let mut items = vec![Item::Heading(law.name.to_string())];
    if !law.note.0.is_empty() {
        items.push(Item::Note(law.note.to_string()));
    }
    let found = format!("{} {}: {}.", law.question, law.parameter, interval(law.estimate));
    items.push(Item::figure(figure(at, law), found.trim_start()));
    let rows = law.alternatives.iter().map(|other| {
        let parameters =
            other.parameters.iter().map(|(name, value)| format!("{name} = {}", short(*value)));
        let parameters = parameters.collect::<Vec<_>>().join(", ");
        vec![other.form.to_string().into(), parameters.into(), other.aicc.into()]
    });
    let columns = vec![Column::new("form"), Column::new("parameters"), Column::fixed("AICc", 1)];
    let caption = "Forms that were compared (a lower AICc is better)";
    items.push(Item::Table(Table::new("forms", caption, columns, rows.collect())));
    items
}

fn figure(at: usize, law: &Law) -> Figure {
    let series = grouped(&law.points, |point| point.series.clone());
    let series: Vec<Series> = series
        .into_iter()
        .map(|(name, points)| Series {
            name: name.0,
            style: Style::Markers,
            points: points.iter().map(|point| placed(point)).collect(),
        })
        .collect();
    let points = || series.iter().flat_map(|series| &series.points);
    let x = scale(points().map(|point| point.x));
    let y = scale(points().map(|point| point.y));
    Figure {
        name: slug(&format!("scaling {at} {}", law.name)),
        title: law.name.to_string(),
        x: Axis::new(law.x_label.to_string(), x),
        y: Axis::new(law.y_label.to_string(), y),
        series,
        references: Vec::new(),
    }
}

fn placed(point: &Measured) -> Point {
    match point.y {
        Some(y) => Point::new(point.x, y).between(point.low, point.high),
        None => Point::censored(point.x, point.low, point.high),
    }
}

/// Ratios count once positive values span a factor of 4; past 1000, or where values are large, in
/// powers of ten.
fn scale(values: impl Iterator<Item = f64>) -> Scale {
    let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    match high / low {
        ratio if low > 0.0 && (ratio >= 1000.0 || ratio >= 4.0 && high > 1e4) => Scale::Log10,
        ratio if low > 0.0 && ratio >= 4.0 => Scale::Log2,
        _ => Scale::Linear,
    }
}
