//! Reading of documents from text, JSON, JSON Lines and Parquet files.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::columns;
use super::files::{self, Format, SourceFile};
use super::utf8::utf8;
use crate::error::{Error, Result};

/// A text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The file it was in.
    pub source: String,
    /// All of it.
    pub text: String,
}

/// Every document of the files, folders and globs in `patterns`, in order; relative ones start
/// at `base`, and `field` names the field or column of JSON and Parquet files.
///
/// # Errors
/// A file is missing, unreadable or not text, or there is no text in any of them.
pub fn read_documents(patterns: &[String], base: &Path, field: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files::resolve(patterns, base)? {
        each_document(&file, field, &mut |text| {
            if !text.is_empty() {
                documents.push(Document { source: file.path.display().to_string(), text });
            }
            Ok(())
        })?;
    }
    if documents.is_empty() {
        return Err(Error::input("there is no text in the given files")
            .at(patterns.join(", "))
            .hint(
                "are these the right files, and does --field name the field that holds the text?",
            ));
    }
    Ok(documents)
}

/// Gives the documents of `file` one at a time, so that few are in memory.
pub(super) fn each_document(
    file: &SourceFile,
    field: &str,
    take: &mut dyn FnMut(String) -> Result<()>,
) -> Result<()> {
    match file.format {
        Format::Text => take(text(&file.path)?),
        Format::JsonLines => json_lines(&file.path, field, take),
        Format::Json => json(&file.path, field, take),
        Format::Parquet => columns::each_string(&file.path, field, take),
    }
}

fn text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| Error::io("reading", path, &error))?;
    let mut text = utf8(bytes, 0).map_err(|error| error.at(path.display()))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

fn json_lines(path: &Path, field: &str, take: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::io("opening", path, &error))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut offset = 0;
    for line in 1_u64.. {
        let mut bytes = Vec::new();
        let length = reader
            .read_until(b'\n', &mut bytes)
            .map_err(|error| Error::io("reading", path, &error))?;
        if length == 0 {
            break;
        }
        let place = || format!("{}:{line}", path.display());
        let text = utf8(bytes, offset).map_err(|error| error.at(place()))?;
        offset += length as u64;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(text).map_err(|error| {
            Error::input(format!("this line is not JSON: {error}"))
                .at(place())
                .hint("a .jsonl file holds one complete JSON object on every line")
        })?;
        if let Some(text) = text_of(value, field).map_err(|error| error.at(place()))? {
            take(text)?;
        }
    }
    Ok(())
}

fn json(path: &Path, field: &str, take: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
    let text = text(path)?;
    let mut entry = 0_u64;
    for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let value = value.map_err(|error| {
            Error::input(format!("this is not JSON: {error}")).at(format!(
                "{}:{}",
                path.display(),
                error.line()
            ))
        })?;
        let values = match value {
            Value::Array(values) => values,
            one => vec![one],
        };
        for value in values {
            entry += 1;
            let place = || format!("{}, entry {entry}", path.display());
            if let Some(text) = text_of(value, field).map_err(|error| error.at(place()))? {
                take(text)?;
            }
        }
    }
    Ok(())
}

/// The text of an object, or of a bare string; a null is not a document.
fn text_of(value: Value, field: &str) -> Result<Option<String>> {
    let found = match value {
        Value::Object(_) => descend(value, field)?,
        bare => bare,
    };
    match found {
        Value::String(text) => Ok(Some(text)),
        Value::Null => Ok(None),
        other => Err(Error::input(format!(
            "field `{field}` should hold text, but holds {}",
            kind_of(&other)
        ))),
    }
}

fn descend(value: Value, field: &str) -> Result<Value> {
    let missing = |object: &serde_json::Map<String, Value>| {
        let keys = object.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        Error::input(format!("there is no field `{field}`; the fields are {keys}"))
            .hint("name the field that holds the text: data.field")
    };
    let Value::Object(mut object) = value else { return Ok(value) };
    if let Some(found) = object.remove(field) {
        return Ok(found);
    }
    let Some((first, rest)) = field.split_once('.') else { return Err(missing(&object)) };
    match object.remove(first) {
        Some(inner @ Value::Object(_)) => descend(inner, rest),
        Some(Value::Null) => Ok(Value::Null),
        _ => Err(missing(&object)),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
