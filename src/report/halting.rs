//! The section of a page on halting policies.

use std::path::Path;

use super::page::Item;
use super::plot::{Axis, Figure, Point, Scale, Series, Style};
use super::read::{Found, json};
use super::run_data::{Halting, HaltingPoint, Policy};
use super::table::{Column, Table};

/// What is known of halting, beside the student or in the folder itself.
pub(super) fn compose(folder: &Path) -> Vec<Item> {
    let places = [folder.join("student").join("halting.json"), folder.join("halting.json")];
    let found = places.iter().map(|place| json::<Halting>(place));
    let Some(found) = found.into_iter().find(|found| !matches!(found, Found::Absent)) else {
        return Vec::new();
    };
    let heading = Item::Heading("Halting".into());
    match found {
        Found::Whole(halting) => vec![
            heading,
            Item::figure(
                curves(&halting),
                "Each line is a policy at thresholds from loose to strict, on the text it was \
                 calibrated on.",
            ),
            Item::figure(
                stops(&halting),
                "Share of the tokens that stop after each repetition, at the threshold that was \
                 chosen.",
            ),
            table(&halting),
        ],
        Found::Damaged(why) => vec![heading, Item::Note(why)],
        Found::Absent => Vec::new(),
    }
}

fn curves(halting: &Halting) -> Figure {
    let point = |point: &HaltingPoint| Point::new(point.mean_repetitions, point.kl_nats);
    let series = halting.policies.iter().map(|policy| {
        let mut points: Vec<Point> = policy.curve.points.iter().map(point).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let style = if points.len() > 1 { Style::Line } else { Style::Markers };
        Series { name: policy.curve.policy.to_string(), style, points }
    });
    Figure {
        name: "run-halting-curves".into(),
        title: "KL by the mean repetitions of a token".into(),
        x: Axis::new("mean repetitions", Scale::Linear),
        y: Axis::new("KL to the teacher (nats per token)", Scale::Linear),
        series: series.collect(),
        references: Vec::new(),
    }
}

/// When tokens stop under the policy that was best.
fn stops(halting: &Halting) -> Figure {
    let best = |policy: &&Policy| policy.curve.policy == halting.best;
    let chosen = halting.policies.iter().find(best).and_then(Policy::chosen);
    let stops: &[Option<f64>] = chosen.map(|point| point.stops.as_slice()).unwrap_or_default();
    let tokens: f64 = stops.iter().flatten().sum();
    let share = |(at, count): (usize, &Option<f64>)| {
        Point::new(at as f64, count.map(|count| count / tokens))
    };
    Figure {
        name: "run-halting-stops".into(),
        title: format!("When tokens stop under {}, the best policy", halting.best),
        x: Axis::new(
            "repetitions",
            Scale::Categories((1..=stops.len()).map(|count| count.to_string()).collect()),
        ),
        y: Axis::new("share of tokens", Scale::Linear),
        series: vec![Series {
            name: halting.best.to_string(),
            style: Style::Bars,
            points: stops.iter().enumerate().map(share).collect(),
        }],
        references: Vec::new(),
    }
}

fn table(halting: &Halting) -> Item {
    let rows = halting.policies.iter().map(|policy| {
        let chosen = policy.chosen();
        vec![
            policy.curve.policy.to_string().into(),
            policy.threshold.into(),
            chosen.and_then(|point| point.mean_repetitions).into(),
            chosen.and_then(|point| point.kl_nats).into(),
            chosen.and_then(|point| point.agreement).into(),
        ]
    });
    let columns = vec![
        Column::new("policy"),
        Column::fixed("threshold", 4),
        Column::fixed("mean repetitions", 2),
        Column::fixed("KL, nats/token", 3),
        Column::percent("top-1 agreement"),
    ];
    let caption = "Policies at the thresholds that were chosen, on the text for calibration";
    Item::Table(Table::new("calibration", caption, columns, rows.collect()))
}
