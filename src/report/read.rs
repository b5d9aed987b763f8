//! Reading of result files that may be missing or damaged.
//!
//! Files are read as they are found: half-written, of an older or a newer program. Fields that are
//! missing or null have no value; fields that are not known are passed over.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::Value;

/// A longer file is none of ours (bytes).
const LONGEST: u64 = 1 << 28;

/// What a file holds.
#[derive(Debug)]
pub(super) enum Found<T> {
    /// There is no such file.
    Absent,
    /// There is, but it cannot be read; why.
    Damaged(String),
    /// Its content.
    Whole(T),
}

/// A JSON file.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Found<T> {
    let bytes = match bytes(path) {
        Found::Whole(bytes) => bytes,
        Found::Damaged(why) => return Found::Damaged(why),
        Found::Absent => return Found::Absent,
    };
    let parsed = serde_json::from_slice::<Value>(&bytes).and_then(value);
    parsed.map_or_else(|error| damaged(path, &error), Found::Whole)
}

/// A text file.
pub(super) fn text(path: &Path) -> Found<String> {
    match bytes(path) {
        Found::Whole(bytes) => Found::Whole(String::from_utf8_lossy(&bytes).into_owned()),
        Found::Damaged(why) => Found::Damaged(why),
        Found::Absent => Found::Absent,
    }
}

/// The lines of a JSONL file that can be read, and how many cannot. A last line without its end is
/// still being written: it does not count.
pub(super) fn lines<T: DeserializeOwned>(path: &Path) -> Found<(Vec<T>, usize)> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) => return unopened(path, &error),
    };
    let (mut read, mut unreadable) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        match file.read_until(b'\n', &mut line) {
            Ok(_) if !line.ends_with(b"\n") => return Found::Whole((read, unreadable)),
            Ok(_) => match serde_json::from_slice::<Value>(&line).and_then(value) {
                Ok(content) => read.push(content),
                Err(_) => unreadable += 1,
            },
            Err(error) => return damaged(path, &error),
        }
    }
}

fn bytes(path: &Path) -> Found<Vec<u8>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return unopened(path, &error),
    };
    let mut bytes = Vec::new();
    match file.take(LONGEST + 1).read_to_end(&mut bytes) {
        Err(error) => damaged(path, &error),
        Ok(_) if bytes.len() as u64 > LONGEST => damaged(path, &"it is too long"),
        Ok(_) => Found::Whole(bytes),
    }
}

fn unopened<T>(path: &Path, error: &std::io::Error) -> Found<T> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Found::Absent,
        _ => damaged(path, error),
    }
}

fn damaged<T>(path: &Path, why: &dyn fmt::Display) -> Found<T> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Found::Damaged(format!("{name} cannot be read, so what it says is missing here: {why}"))
}

fn value<T: DeserializeOwned>(mut value: Value) -> serde_json::Result<T> {
    drop_nulls(&mut value);
    serde_json::from_value(value)
}

/// A field that is null is a field that is missing.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A name: text as it is, anything else as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label(pub(super) String);

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        }))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
