//! Typed access to the keys of a `config.json`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

use super::adapter::Switch;

/// A JSON object whose wrong kinds of values are refused by key. `null` counts as absent.
#[derive(Debug)]
pub struct Settings<'a> {
    map: &'a Map<String, Value>,
}

impl<'a> Settings<'a> {
    /// # Errors
    /// The value is not an object.
    pub fn new(value: &'a Value) -> Result<Self> {
        let map = value.as_object().ok_or_else(|| {
            Error::input(format!("{} stands where an object of settings should", brief(value)))
        })?;
        Ok(Self { map })
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is written at all, if only as `null`.
    pub fn mentions(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// A whole number.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        let as_usize =
            |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        self.read(key, "a whole number", as_usize)
    }

    /// A whole number that must be there.
    pub fn required_count(&self, key: &str) -> Result<usize> {
        self.count(key)?.ok_or_else(|| {
            Error::input(format!("`{key}` is missing"))
                .hint("is this the config.json of a language model, and is it complete?")
        })
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", Value::as_f64)
    }

    /// A truth value; absent is false.
    pub fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.read(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.read(key, "a text", Value::as_str)
    }

    /// An object inside this one; an empty one counts as absent.
    pub fn object(&self, key: &str) -> Result<Option<Settings<'a>>> {
        let inner = self.read(key, "an object", Value::as_object)?;
        Ok(inner.filter(|map| !map.is_empty()).map(|map| Settings { map }))
    }

    /// A token or a list of tokens.
    pub fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let token = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let tokens = self.read(key, "a token or a list of tokens", |value| match value {
            Value::Array(list) => list.iter().map(token).collect(),
            one => token(one).map(|id| vec![id]),
        })?;
        Ok(tokens.unwrap_or_default())
    }

    /// Whether an optional part is there.
    pub fn switch(&self, switch: Switch) -> Result<bool> {
        match switch {
            Switch::Off => Ok(false),
            Switch::On => Ok(true),
            Switch::Key(key) => self.flag(key),
        }
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = convert(value);
        let wrong = || Error::input(format!("`{key}` is {}, expected {expected}", brief(value)));
        found.map(Some).ok_or_else(wrong)
    }
}

/// Reads a JSON file.
///
/// # Errors
/// It cannot be read, or is not JSON.
pub fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(|error| Error::io("reading", path, &error))?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::input(format!("this is not valid JSON: {error}"))
            .at(path.display())
            .hint("the file is damaged or cut short: fetch it again")
    })
}

/// A value short enough for a message.
pub fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
