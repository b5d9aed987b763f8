//! Several runs in one table, a row a run.

use std::path::Path;

use serde_json::Value;

use super::read::{Found, json};
use super::run_data::{Cost, Evaluation};
use super::run_figures::ranged;
use super::table::{Cell, Column, Table};
use crate::error::{Error, Result};
use crate::hub::looped::read_looped;
use crate::model::LoopedConfig;

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
    let found: Evaluation = match json(&path) {
        Found::Whole(found) => found,
        Found::Damaged(why) => return Err(Error::input(why).at(folder.display())),
        Found::Absent => {
            return Err(Error::input("there is no eval.json; only finished runs can be compared")
                .at(folder.display()));
        }
    };
    let score = found.student.iter().find(|score| score.repetitions == found.trained_repetitions);
    let score = score.ok_or_else(|| {
        Error::input("eval.json has no score at the repetitions trained for").at(folder.display())
    })?;
    let ratio = |of: fn(&Cost) -> Option<f64>| {
        let (student, teacher) = (found.student_cost.as_ref()?, found.teacher_cost.as_ref()?);
        Some(of(student)? / of(teacher)?)
    };
    let config = config(folder);
    Ok(vec![
        found.name.to_string().into(),
        config.as_ref().map(|config| config.base.layers as f64).into(),
        found.teacher.perplexity.into(),
        config.as_ref().map_or(Cell::Missing, |config| Cell::Text(layers(config))),
        ranged(score.perplexity, score.perplexity_interval),
        score.kl_nats.into(),
        score.agreement.into(),
        ratio(|cost| cost.parameters.blocks).into(),
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
