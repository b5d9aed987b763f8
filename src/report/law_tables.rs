//! Tables of a depth law.

use super::fitted::Fitted;
use super::groups::{grouped, ordered, over_seeds};
use super::header::interval;
use super::law_data::{Law, Needed};
use super::page::Item;
use super::plot::short;
use super::table::{Cell, Column, Table};

/// The law with its intervals.
pub(super) fn law(law: &Law) -> Item {
    let row =
        |name: &str, found: Option<Fitted>| vec![name.into(), found.unwrap_or_default().into()];
    let rows = vec![
        row("exponent of depth ratio", law.exponent),
        row("exponent of width ratio", law.width_exponent),
    ];
    let columns = vec![Column::new("parameter"), Column::new("estimate (95 % CI)")];
    Item::Table(Table::new("law", "The law", columns, rows))
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
            form.form.to_string().into(),
            parameters.collect::<Vec<_>>().join(", ").into(),
            form.aicc.into(),
            behind.into(),
            form.held_out.into(),
        ]
    });
    let columns = vec![
        Column::new("form"),
        Column::new("parameters"),
        Column::fixed("AICc", 1),
        Column::fixed("above the least", 1),
        Column::fixed("log likelihood of held-out points", 1),
    ];
    let caption = "Forms of the law, by AICc (less is better)";
    Item::Table(Table::new("forms", caption, columns, rows.collect()))
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
        let ratio = |of: fn(&Needed) -> Option<f64>| -> Cell {
            points.first().and_then(|point| of(point)).into()
        };
        let mut row: Vec<Cell> =
            [task, trained, teacher, student].map(|label| label.0.as_str().into()).into();
        row.extend([
            ratio(|point| point.cell.depth_ratio),
            ratio(|point| point.cell.width_ratio),
            seeds(&points).into(),
        ]);
        row.extend(others.iter().map(|other| {
            let same = other.iter().find(|(other, _)| *other == key);
            Cell::from(same.map(|(_, points)| seeds(points)).unwrap_or_default())
        }));
        row
    });
    let targets = law.other_targets.iter().map(|other| other.target.0.as_str());
    let head = ["task", "trained", "teacher", "student", "depth ratio", "width ratio"];
    let heads = head.into_iter().chain(std::iter::once(law.target.0.as_str())).chain(targets);
    let caption = "The fewest repetitions tried that were enough for each target, by seed. > 4: none \
        were, 4 the most";
    let columns = heads.map(Column::new).collect();
    Item::Table(Table::new("needed", caption, columns, rows.collect()))
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
            name.0.into(),
            task.0.into(),
            first.and_then(|control| control.depth_ratio).into(),
            first.and_then(|control| control.width_ratio).into(),
            accuracy.unwrap_or_default().into(),
            Cell::Number(seeds.len() as f64),
            first.and_then(|control| control.parameters).into(),
            first.and_then(|control| control.flops_ratio).into(),
        ]
    });
    let columns = vec![
        Column::new("control"),
        Column::new("task"),
        Column::new("depth ratio"),
        Column::new("width ratio"),
        Column::percent("accuracy [lowest, highest seed]"),
        Column::new("seeds"),
        Column::fixed("parameters", 0),
        Column::fixed("operations, of the teacher's", 2),
    ];
    Item::Table(Table::new("controls", "Controls", columns, rows.collect()))
}

/// What is right without any model.
pub(super) fn baselines(law: &Law) -> Item {
    let rows = law.baselines.iter().map(|baseline| {
        vec![
            baseline.task.to_string().into(),
            baseline.chance.into(),
            baseline.majority.into(),
            baseline.copy_input.into(),
            baseline.last_token.into(),
        ]
    });
    let heads = ["chance", "majority", "copy of the input", "last token"];
    let columns = std::iter::once(Column::new("task")).chain(heads.map(Column::percent)).collect();
    Item::Table(Table::new("baselines", "Accuracy without a model", columns, rows.collect()))
}
