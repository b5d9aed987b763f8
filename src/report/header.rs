//! The head of a study page: progress, machine, command and notes.

use serde::Deserialize;

use super::fitted::Fitted;
use super::page::Item;
use super::plot::short;
use super::read::Label;
use super::table::{Column, Table, common_decimals, fixed};
use crate::eval::Interval;
use crate::run::Provenance;

/// The fields that every sweep has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) name: Label,
    command: Label,
    machine: Label,
    recipe: Label,
    points_done: Option<f64>,
    points_total: Option<f64>,
    failures: Vec<Failure>,
}

/// A point that came to nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Failure {
    point: Label,
    error: Label,
}

impl Header {
    /// What must not be missed: what is unfinished and what failed.
    pub(super) fn notes(&self) -> Vec<Item> {
        let mut notes = Vec::new();
        match (self.points_done, self.points_total) {
            (Some(done), Some(total)) if done < total => notes.push(Item::Note(format!(
                "This sweep is not finished: {} of {} points are done. What follows rests on them.",
                short(done),
                short(total)
            ))),
            (Some(_), Some(_)) => {}
            _ => notes.push(Item::Note("The data does not say how many points are done.".into())),
        }
        let failed = self.failures.len();
        if failed > 0 {
            let points = if failed == 1 { "point" } else { "points" };
            notes.push(Item::Note(format!("{failed} {points} failed; they are listed below.")));
        }
        notes
    }

    /// How it was made, and what failed.
    pub(super) fn origin(&self) -> Vec<Item> {
        let columns = vec![Column::new("point"), Column::new("error")];
        let rows = self.failures.iter().map(|failure| {
            vec![failure.point.to_string().into(), failure.error.to_string().into()]
        });
        vec![
            Item::Table(Table::new("failures", "Points that failed", columns, rows.collect())),
            Item::Verbatim("Command".into(), self.command.to_string()),
            Item::Verbatim("Machine".into(), self.machine.to_string()),
            Item::Verbatim("Recipe".into(), self.recipe.to_string()),
        ]
    }
}

/// The provenance of a run, one part a line.
pub(super) fn provenance(provenance: &Provenance) -> Item {
    let lines = provenance.parts().into_iter().map(|(name, text)| format!("{name}: {text}"));
    Item::Verbatim("Provenance".into(), lines.collect::<Vec<_>>().join("\n"))
}

/// `0.47 [0.40, 0.55]`, with the same decimals for all three.
pub(super) fn interval(found: Fitted) -> String {
    let numbers = [found.estimate, found.low, found.high];
    let decimals = common_decimals(numbers.into_iter().flatten());
    let short = |value: f64| fixed(value, decimals);
    let end = |end: Option<f64>| end.map_or_else(|| "open".to_owned(), short);
    match found {
        Fitted { estimate: None, .. } => "not known yet".to_owned(),
        Fitted { estimate: Some(value), low: None, high: None } => {
            format!("{} (no interval)", short(value))
        }
        Fitted { estimate: Some(value), low, high } => {
            format!("{} [{}, {}]", short(value), end(low), end(high))
        }
    }
}

/// A number of a file that may lack it: what is not finite was not written.
pub(super) fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// A number of a result with its interval over documents.
pub(super) fn fitted(value: f64, ends: Option<Interval>) -> Fitted {
    let (low, high) =
        (ends.and_then(|ends| known(ends.low)), ends.and_then(|ends| known(ends.high)));
    Fitted { estimate: known(value), low, high }
}

/// A number in a cell.
pub(super) fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), short)
}
