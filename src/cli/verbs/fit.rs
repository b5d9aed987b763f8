//! `fit`: fits a law to a CSV file.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde_json::Value;

use crate::cli::args::study::{FitArgs, LawName};
use crate::cli::output;
use crate::cli::session::Session;
use crate::disk::near;
use crate::error::{Error, Result};
use crate::fit::table::Table;
use crate::fit::{self, FitKind};

pub(crate) fn fit(args: &FitArgs, session: &Session) -> Result<()> {
    let place = args.file.display().to_string();
    let mut text = String::new();
    if place == "-" {
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| Error::io("reading the points", "stdin", &error))?;
    } else {
        text = read(&args.file)?;
    }
    let kind = match args.law {
        LawName::Law => FitKind::Law,
        LawName::Joint => FitKind::Joint,
        LawName::Chain => FitKind::Chain,
        LawName::Horizon => FitKind::Horizon,
    };
    let found = fit::run(kind, &text, &place)?;
    if kind == FitKind::Law {
        warn_of_pooling(&Table::read(&text, &place)?, session);
    }
    if session.json {
        return output::json(&found);
    }
    let value = serde_json::to_value(&found)
        .map_err(|error| Error::internal(format!("writing a fit: {error}")))?;
    let mut rows = vec![["number", "estimate", "low", "high", "note"].map(str::to_owned).to_vec()];
    collect(&value, "", &mut rows);
    output::table(&rows)
}

/// The points of a file.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let missing = Error::input("there is no such file of points").at(path.display());
            match near(path) {
                Some(near) => missing.hint(format!("did you mean {}?", near.display())),
                None => missing.hint(
                    "give a CSV file with a header, such as the points.csv of a study, or `-` for \
                     stdin",
                ),
            }
        }
        _ => Error::io("reading", path, &error),
    })
}

/// Columns of the points of a study whose values are of different laws.
const ONE_LAW: [&str; 2] = ["target", "trained"];

/// Rows of different targets or ways of training follow different laws.
fn warn_of_pooling(table: &Table, session: &Session) {
    for column in ONE_LAW {
        let Ok(values) = table.texts(column) else { continue };
        let values: BTreeSet<&str> = values.into_iter().collect();
        if values.len() > 1 {
            let values: Vec<&str> = values.into_iter().collect();
            session.context.warn(&format!(
                "the rows are of {} values of `{column}` ({}) and are fitted as one law: keep the \
                 rows of one",
                values.len(),
                values.join("; ")
            ));
        }
    }
}

/// Every estimate and every plain number, by its name.
fn collect(value: &Value, name: &str, rows: &mut Vec<Vec<String>>) {
    let shown = |value: Option<&Value>| match value {
        Some(Value::Number(number)) => number.as_f64().map_or(number.to_string(), short),
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    };
    match value {
        Value::Object(map) if map.contains_key("estimate") => {
            let parts = ["estimate", "low", "high", "note"].map(|part| shown(map.get(part)));
            rows.push(std::iter::once(name.to_owned()).chain(parts).collect());
        }
        Value::Object(map) => {
            for (key, inner) in map {
                let full = if name.is_empty() { key.clone() } else { format!("{name} {key}") };
                collect(inner, &full, rows);
            }
        }
        // Lists of forms are told by their form; long curves are for --json.
        Value::Array(list) => {
            for inner in list.iter().filter(|inner| inner.get("form").is_some()) {
                let form = shown(inner.get("form"));
                collect(inner.get("aicc").unwrap_or(&Value::Null), &format!("AICc {form}"), rows);
            }
        }
        Value::Number(_) | Value::String(_) => {
            let empty = ["", "", ""].map(str::to_owned);
            let row = [name.to_owned(), shown(Some(value))];
            rows.push(row.into_iter().chain(empty).collect());
        }
        _ => {}
    }
}

fn short(number: f64) -> String {
    if number != 0.0 && (number.abs() < 1e-3 || number.abs() >= 1e6) {
        format!("{number:.4e}")
    } else {
        format!("{}", (number * 1e4).round() / 1e4)
    }
}
