//! Tables of a depth law.

use super::groups::{grouped, ordered, over_seeds};
use super::header::{Fitted, cell, interval};
use super::law_data::{Law, Needed};
use super::page::Item;
use super::plot::short;

/// The law with its intervals.
pub(super) fn law(law: &Law) -> Item {
    let row = |name: &str, found: Option<Fitted>| {
        let found = found.unwrap_or_default();
        vec![name.to_owned(), cell(found.estimate), cell(found.low), cell(found.high)]
    };
    let rows = vec![
        row("exponent of depth ratio", law.exponent),
        row("exponent of width ratio", law.width_exponent),
    ];
    Item::table("The law", &["parameter", "estimate", "low", "high"], rows)
}

/// The numbers that matter most.
pub(super) fn numbers(law: &Law) -> Item {
    let known = |text: &str| if text.is_empty() { "not known yet" } else { text }.to_owned();
    let estimate = |found: Option<Fitted>| interval(found.unwrap_or_default());
    Item::Numbers(vec![
        ("target".to_owned(), known(&law.target.0)),
        ("exponent of depth ratio".to_owned(), estimate(law.exponent)),
        ("exponent of width ratio".to_owned(), estimate(law.width_exponent)),
        ("form of the law".to_owned(), known(&law.form.0)),
    ])
}

/// The formulas that were compared.
pub(super) fn forms(law: &Law) -> Item {
    let least = law.forms.iter().filter_map(|form| form.aicc).reduce(f64::min);
    let rows = law.forms.iter().map(|form| {
        let parameters =
            form.parameters.iter().map(|(name, value)| format!("{name} = {}", short(*value)));
        let behind = form.aicc.zip(least).map(|(aicc, least)| aicc - least);
        vec![
            form.form.to_string(),
            parameters.collect::<Vec<_>>().join(", "),
            cell(form.aicc),
            cell(behind),
            cell(form.held_out),
        ]
    });
    let head =
        ["form", "parameters", "AICc", "above the least", "log likelihood of held-out points"];
    Item::table("Forms of the law, by AICc (less is better)", &head, rows.collect())
}

/// What each student needed for every target, its seeds side by side.
pub(super) fn needed(law: &Law) -> Item {
    let key = |point: &Needed| {
        let cell = &point.cell;
        let ratios = (ordered(cell.depth_ratio), ordered(cell.width_ratio));
        (cell.panel(), ratios, cell.teacher.clone(), cell.student.clone())
    };
    let others: Vec<_> =
        law.other_targets.iter().map(|other| grouped(&other.points, key)).collect();
    let seeds = |points: &[&Needed]| {
        let each = points.iter().map(|point| match (point.needed.low, point.needed.high) {
            (_, Some(high)) => short(high),
            (Some(low), None) => format!("> {}", short(low)),
            (None, None) => "?".to_owned(),
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let rows = grouped(&law.points, key).into_iter().map(|(key, points)| {
        let ((task, trained), _, teacher, student) = &key;
        let ratio =
            |of: fn(&Needed) -> Option<f64>| cell(points.first().and_then(|point| of(point)));
        let mut row = vec![
            task.0.clone(),
            trained.0.clone(),
            teacher.0.clone(),
            student.0.clone(),
            ratio(|point| point.cell.depth_ratio),
            ratio(|point| point.cell.width_ratio),
            seeds(&points),
        ];
        row.extend(others.iter().map(|other| {
            let same = other.iter().find(|(other, _)| *other == key);
            same.map(|(_, points)| seeds(points)).unwrap_or_default()
        }));
        row
    });
    let targets = law.other_targets.iter().map(|other| other.target.0.as_str());
    let head = ["task", "trained", "teacher", "student", "depth ratio", "width ratio"];
    let head: Vec<&str> =
        head.into_iter().chain(std::iter::once(law.target.0.as_str())).chain(targets).collect();
    let caption = "The fewest repetitions tried that were enough for each target, by seed. > 4: none \
        were, 4 the most";
    Item::table(caption, &head, rows.collect())
}

/// What models do that repeat nothing.
pub(super) fn controls(law: &Law) -> Item {
    let groups = grouped(&law.controls, |control| {
        let ratios = (ordered(control.depth_ratio), ordered(control.width_ratio));
        (control.name.clone(), control.task.clone(), ratios)
    });
    let rows = groups.into_iter().map(|((name, task, _), seeds)| {
        let accuracy = over_seeds(seeds.iter().map(|control| control.accuracy));
        let first = seeds.first();
        vec![
            name.0,
            task.0,
            cell(first.and_then(|control| control.depth_ratio)),
            cell(first.and_then(|control| control.width_ratio)),
            interval(accuracy.unwrap_or_default()),
            seeds.len().to_string(),
            cell(first.and_then(|control| control.parameters)),
            cell(first.and_then(|control| control.flops_ratio)),
        ]
    });
    let head = [
        "control",
        "task",
        "depth ratio",
        "width ratio",
        "accuracy [lowest, highest seed]",
        "seeds",
        "parameters",
        "operations, of the teacher's",
    ];
    Item::table("Controls", &head, rows.collect())
}

/// What is right without any model.
pub(super) fn baselines(law: &Law) -> Item {
    let rows = law.baselines.iter().map(|baseline| {
        vec![
            baseline.task.to_string(),
            cell(baseline.chance),
            cell(baseline.majority),
            cell(baseline.copy_input),
            cell(baseline.last_token),
        ]
    });
    let head = ["task", "chance", "majority", "copy of the input", "last token"];
    Item::table("Accuracy without a model", &head, rows.collect())
}
