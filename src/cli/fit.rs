//! How is a law fitted to anyone's points?

use std::io::Read;

use serde_json::Value;

use super::study_args::{FitArgs, LawName};
use super::{Session, output};
use crate::error::{Error, Result};
use crate::fit::{self, FitKind};

pub(super) fn fit(args: &FitArgs, session: &Session) -> Result<()> {
    let place = args.file.display().to_string();
    let mut text = String::new();
    let read = if place == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(&args.file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| Error::io("reading", &args.file, &error))?;
    let kind = match args.law {
        LawName::Law => FitKind::Law,
        LawName::Joint => FitKind::Joint,
        LawName::Chain => FitKind::Chain,
        LawName::Horizon => FitKind::Horizon,
    };
    let found = fit::run(kind, &text, &place)?;
    if session.json {
        return output::json(&found);
    }
    let value = serde_json::to_value(&found)
        .map_err(|error| Error::internal(format!("writing a fit: {error}")))?;
    let mut rows = vec![["number", "estimate", "low", "high"].map(str::to_owned).to_vec()];
    collect(&value, "", &mut rows);
    output::table(&rows)
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
            let parts = ["estimate", "low", "high"].map(|part| shown(map.get(part)));
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
            rows.push(vec![name.to_owned(), shown(Some(value)), String::new(), String::new()]);
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
