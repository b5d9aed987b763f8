//! Values of GGUF metadata.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use crate::error::{Error, Result};

/// The value of a metadata key. Text and lists stay where they are in the file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// Any whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// UTF-8.
    Text(&'a str),
    /// Many of one kind.
    List(List<'a>),
}

/// An array whose extent was checked; its elements are read on demand.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'a> {
    kind: u32,
    pub(super) count: usize,
    bytes: &'a [u8],
}

const TEXT: u32 = 8;
const LIST: u32 = 9;

/// The size of a value of `kind`; none where it varies.
fn width(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

impl<'a> Value<'a> {
    /// Reads one value of `kind`.
    pub(super) fn read(cursor: &mut Cursor<'a>, kind: u32) -> Result<Self> {
        Ok(match kind {
            0 => Self::Integer(i128::from(cursor.array::<1>()?[0])),
            1 => Self::Integer(i128::from(i8::from_le_bytes(cursor.array()?))),
            2 => Self::Integer(i128::from(u16::from_le_bytes(cursor.array()?))),
            3 => Self::Integer(i128::from(i16::from_le_bytes(cursor.array()?))),
            4 => Self::Integer(i128::from(cursor.u32()?)),
            5 => Self::Integer(i128::from(i32::from_le_bytes(cursor.array()?))),
            6 => Self::Float(shortest(f32::from_le_bytes(cursor.array()?))),
            7 => Self::Bool(cursor.array::<1>()?[0] != 0),
            TEXT => Self::Text(cursor.text()?),
            LIST => Self::List(List::read(cursor)?),
            10 => Self::Integer(i128::from(cursor.u64()?)),
            11 => Self::Integer(i128::from(i64::from_le_bytes(cursor.array()?))),
            12 => Self::Float(f64::from_le_bytes(cursor.array()?)),
            other => return Err(Error::input(format!("there is no value type {other} in GGUF"))),
        })
    }
}

impl<'a> List<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self> {
        let kind = cursor.u32()?;
        let count = cursor.u64()?;
        let start = cursor.position();
        match (kind, width(kind)) {
            (_, Some(width)) => {
                let bytes = count.checked_mul(width as u64).ok_or_else(|| {
                    Error::input(format!("an array of {count} elements cannot be in any file"))
                })?;
                cursor.take(bytes)?;
            }
            // Every text takes at least its length, so the file's end bounds the loop.
            (TEXT, _) => {
                for _ in 0..count {
                    let length = cursor.u64()?;
                    cursor.take(length)?;
                }
            }
            (LIST, _) => return Err(Error::input("arrays of arrays are not part of GGUF")),
            (other, _) => {
                return Err(Error::input(format!("there is no value type {other} in GGUF")));
            }
        }
        Ok(Self { kind, count: count as usize, bytes: cursor.since(start) })
    }

    /// The elements, one by one.
    pub(super) fn values(&self) -> impl Iterator<Item = Result<Value<'a>>> + use<'a> {
        let (kind, mut cursor) = (self.kind, Cursor::new(self.bytes));
        (0..self.count).map(move |_| Value::read(&mut cursor, kind))
    }
}

/// The shortest decimal that is this f32, as f64: 1e-5 and not 9.999999747378752e-6, so that a
/// converted model computes what the original computes.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The metadata of a file by key.
#[derive(Debug, Default)]
pub(super) struct Metadata<'a> {
    entries: BTreeMap<&'a str, Value<'a>>,
}

fn wrong_type(key: &str, expected: &str, found: &Value) -> Error {
    let found = match found {
        Value::Integer(value) => format!("the number {value}"),
        Value::Float(value) => format!("the number {value}"),
        Value::Bool(value) => format!("{value}"),
        Value::Text(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
        Value::List(list) => format!("a list of {}", list.count),
    };
    Error::input(format!("`{key}` is {found}, expected {expected}"))
}

impl<'a> Metadata<'a> {
    /// Adds an entry; a key that is there already is an error.
    pub(super) fn insert(&mut self, key: &'a str, value: Value<'a>) -> Result<()> {
        match self.entries.insert(key, value) {
            None => Ok(()),
            Some(_) => Err(Error::input(format!("the metadata has `{key}` twice"))),
        }
    }

    /// A whole number of zero or more. A list of one number repeated, one per layer, is that number.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>> {
        let Some(mut value) = self.entries.get(key).copied() else { return Ok(None) };
        let expected = "a whole number";
        if let Value::List(list) = value {
            let mut values = list.values();
            let first = values.next().ok_or_else(|| wrong_type(key, expected, &value))??;
            for other in values {
                if !matches!((first, other?), (Value::Integer(a), Value::Integer(b)) if a == b) {
                    return Err(Error::input(format!("`{key}` differs from layer to layer"))
                        .hint("every layer of a teacher must have the same shape"));
                }
            }
            value = first;
        }
        match value {
            Value::Integer(number) => usize::try_from(number)
                .map(Some)
                .map_err(|_| wrong_type(key, "a whole number of zero or more", &value)),
            _ => Err(wrong_type(key, expected, &value)),
        }
    }

    /// A token id.
    pub(super) fn token(&self, key: &str) -> Result<Option<u32>> {
        let Some(id) = self.size(key)? else { return Ok(None) };
        let id = u32::try_from(id);
        id.map(Some).map_err(|_| Error::input(format!("`{key}` is not a token id")))
    }

    /// Any number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(Value::Integer(number)) => Ok(Some(*number as f64)),
            Some(value) => Err(wrong_type(key, "a number", value)),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => Err(wrong_type(key, "true or false", value)),
        }
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(value) => Err(wrong_type(key, "a text", value)),
        }
    }

    fn list(&self, key: &str) -> Result<Option<List<'a>>> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(*list)),
            Some(value) => Err(wrong_type(key, "a list", value)),
        }
    }

    /// A list of strings.
    pub(super) fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(list) = self.list(key)? else { return Ok(None) };
        let text = |value| match value {
            Value::Text(text) => Ok(text),
            other => Err(wrong_type(key, "a list of strings", &other)),
        };
        list.values().map(|value| text(value?)).collect::<Result<_>>().map(Some)
    }

    /// A list of numbers.
    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(list) = self.list(key)? else { return Ok(None) };
        let number = |value| match value {
            Value::Float(number) => Ok(number),
            Value::Integer(number) => Ok(number as f64),
            other => Err(wrong_type(key, "a list of numbers", &other)),
        };
        list.values().map(|value| number(value?)).collect::<Result<_>>().map(Some)
    }
}
