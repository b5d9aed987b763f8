//! Halting policies on held-out text, as `evaluate --policies --json` writes them, as a table.

use std::path::Path;

use super::page::Item;
use super::read::{Found, json};
use super::table::{Cell, Column, Table};
use crate::eval::PolicyReport;

/// Each policy at its calibrated threshold, and the oracle, if `eval.json` has them.
pub(super) fn compose(folder: &Path) -> Option<Item> {
    let Found::Whole(report) = json::<PolicyReport>(&folder.join("eval.json")) else {
        return None;
    };
    let empty = || Cell::Text(String::new());
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for score in &report.policies {
        rows.push(vec![
            score.name.to_string().into(),
            Cell::Number(score.threshold),
            Cell::Number(score.mean_repetitions),
            Cell::Number(score.computed_repetitions),
            Cell::Number(score.perplexity),
            Cell::Number(score.kl_nats),
            Cell::Number(score.agreement),
            score.oracle_gap_closed.into(),
        ]);
    }
    let oracle = &report.oracle;
    rows.push(vec![
        "oracle".into(),
        empty(),
        Cell::Number(oracle.mean_repetitions),
        empty(),
        Cell::Number(oracle.perplexity),
        Cell::Number(oracle.kl_nats),
        Cell::Number(oracle.agreement),
        Cell::Number(1.0),
    ]);
    let columns = vec![
        Column::new("policy"),
        Column::fixed("threshold", 4),
        Column::fixed("mean repetitions", 2),
        Column::fixed("computed", 2),
        Column::fixed("perplexity", 2),
        Column::fixed("KL, nats/token", 3),
        Column::percent("top-1 agreement"),
        Column::percent("gap to the oracle closed, over all thresholds"),
    ];
    let caption = "Halting policies at their calibrated thresholds, on held-out text";
    Some(Item::Table(Table::new("policies", caption, columns, rows)))
}
