//! Several runs in one table, a row a run.

use std::path::Path;

use serde_json::Value;

use super::header::known;
use super::read::{Found, json};
use super::run_figures::ranged;
use super::table::{Cell, Column, Table};
use crate::error::{Error, Result};
use crate::eval::ModelCost;
use crate::hub::looped::read_looped;
use crate::model::LoopedConfig;
use crate::run::Report;

/// Students at N repetitions beside their teachers, one row for each folder of a run.
///
/// # Errors
/// A folder has no `eval.json` that can be read.
pub fn compare(folders: &[impl AsRef<Path>]) -> Result<Table> {
    let rows = folders.iter().map(|folder| row(folder.as_ref())).collect::<Result<_>>()?;
    let columns = vec![
        Column::new("run"),
        Column::fixed("teacher: layers", 0),
        Column::fixed("perplexity", 1),
        Column::new("student: layers"),
        Column::fixed("perplexity (95 % CI)", 1),
        Column::fixed("KL, nats/token", 2),
        Column::percent("top-1 agreement"),
        Column::fixed("block parameters / teacher's", 2),
        Column::fixed("FLOP/token / teacher's", 2),
    ];
    let caption = "Students at the repetitions they were trained for, on held-out text";
    Ok(Table::new("runs", caption, columns, rows))
}

fn row(folder: &Path) -> Result<Vec<Cell>> {
    let path = folder.join("eval.json");
    let report: Report = match json(&path) {
        Found::Whole(report) => report,
        Found::Damaged(why) => return Err(Error::input(why).at(folder.display())),
        Found::Absent => {
            return Err(Error::input("there is no eval.json; only finished runs can be compared")
                .at(folder.display()));
        }
    };
    let evaluation = &report.evaluation;
    let trained = evaluation.trained_repetitions;
    let score = evaluation.student.iter().find(|score| Some(score.repetitions) == trained);
    let score = score.ok_or_else(|| {
        Error::input("eval.json has no score at the repetitions trained for").at(folder.display())
    })?;
    let ratio = |cost: fn(&ModelCost) -> f64| {
        known(cost(evaluation.student_cost.as_ref()?) / cost(&evaluation.teacher_cost))
    };
    let config = config(folder);
    Ok(vec![
        report.name.clone().into(),
        config.as_ref().map(|config| config.base.layers as f64).into(),
        known(evaluation.teacher.perplexity).into(),
        config.as_ref().map_or(Cell::Missing, |config| Cell::Text(layers(config))),
        ranged(score.perplexity, score.perplexity_interval),
        known(score.kl_nats).into(),
        known(score.agreement).into(),
        ratio(|cost| cost.parameters.blocks as f64).into(),
        ratio(|cost| cost.flops_per_token).into(),
    ])
}

/// How the student of a run is factored, if it is in the folder.
fn config(folder: &Path) -> Option<LoopedConfig> {
    let Found::Whole(config) = json::<Value>(&folder.join("student").join("config.json")) else {
        return None;
    };
    read_looped(&config).ok().flatten()
}

/// `2 + 9 × 2 + 3`: prelude, core and its repetitions, coda.
fn layers(config: &LoopedConfig) -> String {
    let LoopedConfig { prelude_layers, core_layers, repetitions, coda_layers, .. } = config;
    format!("{prelude_layers} + {core_layers} × {repetitions} + {coda_layers}")
}
