//! Values of committed data: `student[repetitions=5].perplexity` of a JSON or TOML file, or
//! `[run=small].tokens` of a CSV file, whose rows are objects.

use std::path::Path;

use serde_json::{Map, Value};

/// The number that an expression stands for: a path, or two with `/` or `-` between them.
pub fn number(file: &Path, expression: &str) -> Result<f64, String> {
    let data = read(file)?;
    let value = |path: &str| {
        let found = walk(&data, path.trim()).ok_or("it is not there");
        let number = found.and_then(|found| found.as_f64().ok_or("it is not a number"));
        number.map_err(|why| format!("`{path}` of {}: {why}", file.display()))
    };
    for (operator, apply) in [(" / ", (|a, b| a / b) as fn(f64, f64) -> f64), (" - ", |a, b| a - b)]
    {
        if let Some((left, right)) = expression.split_once(operator) {
            return Ok(apply(value(left)?, value(right)?));
        }
    }
    value(expression)
}

fn read(file: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
    if file.extension().is_some_and(|ending| ending == "json") {
        return serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()));
    }
    if file.extension().is_some_and(|ending| ending == "toml") {
        return toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()));
    }
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
    let heads = reader.headers().map_err(|error| error.to_string())?.clone();
    let cell = |field: &str| field.parse::<f64>().map_or_else(|_| field.into(), Value::from);
    let rows = reader.records().map(|record| {
        let record = record.map_err(|error| error.to_string())?;
        let fields = heads.iter().zip(&record).map(|(head, field)| (head.to_owned(), cell(field)));
        Ok(Value::Object(fields.collect::<Map<_, _>>()))
    });
    rows.collect::<Result<_, String>>().map(Value::Array)
}

/// `a.b[2].c`, where a number chooses an item by its place and `[key=value]` by what it holds.
fn walk<'a>(data: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = data;
    for part in path.split('.').flat_map(|part| part.split_inclusive(']')) {
        let (name, choice) = part.split_once('[').unwrap_or((part, ""));
        if !name.is_empty() {
            value = value.get(name)?;
        }
        if let Some(choice) = choice.strip_suffix(']') {
            value = chosen(value, choice)?;
        }
    }
    Some(value)
}

fn chosen<'a>(items: &'a Value, choice: &str) -> Option<&'a Value> {
    let Some((key, wanted)) = choice.split_once('=') else {
        return items.get(choice.parse::<usize>().ok()?);
    };
    let is_wanted = |item: &&Value| match item.get(key) {
        Some(Value::String(text)) => text == wanted,
        Some(other) => other.as_f64().is_some_and(|value| wanted.parse() == Ok(value)),
        None => false,
    };
    items.as_array()?.iter().find(is_wanted)
}

#[test]
fn paths_lead_to_the_numbers_of_json_toml_and_csv() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("a.json");
    std::fs::write(&json, r#"{"a": {"b": [{"n": 1, "c": 2}, {"n": 3, "c": 8}]}}"#).unwrap();
    assert_eq!(number(&json, "a.b[n=3].c"), Ok(8.0));
    assert_eq!(number(&json, "a.b[0].c"), Ok(2.0));
    assert_eq!(number(&json, "a.b[n=3].c / a.b[n=1].c"), Ok(4.0));
    assert_eq!(number(&json, "a.b[n=3].c - a.b[0].c"), Ok(6.0));
    for absent in ["a.c", "a.b[n=2].c", "a.b[7].c", "a.b"] {
        assert!(number(&json, absent).is_err(), "{absent}");
    }
    let toml = folder.path().join("a.toml");
    std::fs::write(&toml, "[a]\nb = [0.5, 2]\n").unwrap();
    assert_eq!(number(&toml, "a.b[1]"), Ok(2.0));
    let csv = folder.path().join("a.csv");
    std::fs::write(&csv, "# caption\nname,speed\nslow,1.5\nfast,6\n").unwrap();
    assert_eq!(number(&csv, "[name=fast].speed"), Ok(6.0));
    assert!(number(&csv, "[name=other].speed").is_err());
}
