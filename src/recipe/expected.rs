//! What a key of a recipe may hold, by its JSON schema: in words, with an example.

use serde_json::{Map, Value as Json};

/// What a key may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// In words: `a whole number`, `one of "a", "b"`.
    pub(super) what: String,
    /// A value that fits, as TOML.
    pub(super) example: String,
}

/// What the dotted `key` may hold; none when the schema does not know it.
pub(super) fn expected(schema: &Json, key: &str) -> Option<Expected> {
    let empty = Map::new();
    let definitions = schema["$defs"].as_object().unwrap_or(&empty);
    let schemas = Schemas { definitions };
    let mut at = vec![schema];
    for part in key.split('.') {
        let inner = at.iter().flat_map(|schema| schemas.variants(schema));
        at = inner.filter_map(|schema| schema["properties"].get(part)).collect();
    }
    let found = *at.first()?;
    let what = schemas.what(found)?;
    // A default is an example that its author chose.
    let default = found.get("default").filter(|default| !default.is_null());
    let example = default.map(toml_of).or_else(|| schemas.example(found))?;
    Some(Expected { what, example })
}

struct Schemas<'a> {
    definitions: &'a Map<String, Json>,
}

impl<'a> Schemas<'a> {
    /// The alternatives of a schema, references followed; a `null` is left out.
    fn variants(&self, schema: &'a Json) -> Vec<&'a Json> {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            return self.definitions.get(name).map(|s| self.variants(s)).unwrap_or_default();
        }
        let inner = ["anyOf", "oneOf", "allOf"].into_iter().find_map(|key| schema[key].as_array());
        match inner {
            Some(list) => list.iter().flat_map(|schema| self.variants(schema)).collect(),
            None if schema["type"] == "null" => Vec::new(),
            None => vec![schema],
        }
    }

    fn what(&self, schema: &'a Json) -> Option<String> {
        let variants = self.variants(schema);
        let mut names: Vec<String> = Vec::new();
        for variant in &variants {
            names.extend(self.names(variant)?);
        }
        names.dedup();
        match names.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            [first, second] => Some(format!("{first} or {second}")),
            many => Some(format!("one of {}", many.join(", "))),
        }
    }

    /// The forms of a schema without alternatives.
    fn names(&self, schema: &'a Json) -> Option<Vec<String>> {
        if let Some(values) = schema["enum"].as_array() {
            return Some(values.iter().map(toml_of).collect());
        }
        if let Some(value) = schema.get("const") {
            return Some(vec![toml_of(value)]);
        }
        let name = match kind(schema)? {
            "integer" => "a whole number".to_owned(),
            "number" => "a number".to_owned(),
            "string" => "a text in quotes".to_owned(),
            "boolean" => "true or false".to_owned(),
            "array" => self.list(schema),
            "object" => self.table(schema),
            _ => return None,
        };
        Some(vec![name])
    }

    fn list(&self, schema: &'a Json) -> String {
        let inner = schema.get("items").and_then(|items| self.what(items));
        inner.map_or_else(|| "a list".to_owned(), |inner| format!("a list, each {inner}"))
    }

    /// A table with the keys that must be there: `{ kind = "uniform", least = 1, most = 1 }`.
    fn table(&self, schema: &'a Json) -> String {
        let entries: Vec<String> = required(schema)
            .filter_map(|(key, inner)| Some(format!("{key} = {}", self.example(inner)?)))
            .collect();
        match entries.as_slice() {
            [] => "a table of keys".to_owned(),
            entries => format!("{{ {} }}", entries.join(", ")),
        }
    }

    fn example(&self, schema: &'a Json) -> Option<String> {
        let first = *self.variants(schema).first()?;
        if let Some(value) = schema.get("default").filter(|default| !default.is_null()) {
            return Some(toml_of(value));
        }
        if let Some(value) = first.get("const").or_else(|| first["enum"].get(0)) {
            return Some(toml_of(value));
        }
        Some(match kind(first)? {
            "integer" => "1".to_owned(),
            "number" => "0.1".to_owned(),
            "string" => "\"text\"".to_owned(),
            "boolean" => "true".to_owned(),
            "array" => {
                let inner = first.get("items").and_then(|items| self.example(items));
                format!("[{}]", inner.unwrap_or_default())
            }
            "object" => self.table(first),
            _ => return None,
        })
    }
}

/// The type of a schema; of `["integer", "null"]` the first.
fn kind(schema: &Json) -> Option<&str> {
    let kind = &schema["type"];
    kind.as_str().or_else(|| kind[0].as_str())
}

/// The keys that a table must have, with their schemas.
fn required(schema: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let names = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = names.iter().filter_map(Json::as_str);
    names.filter_map(|name| Some((name, schema["properties"].get(name)?)))
}

/// A JSON value as TOML writes it on one line.
fn toml_of(value: &Json) -> String {
    match value {
        Json::Object(entries) => {
            let entries = entries.iter().filter(|(_, value)| !value.is_null());
            let entries: Vec<String> =
                entries.map(|(key, value)| format!("{key} = {}", toml_of(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Json::Array(values) => {
            format!("[{}]", values.iter().map(toml_of).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::keys::schema_of;
    use crate::recipe::sections::Recipe;

    fn of(key: &str) -> Expected {
        expected(&schema_of::<Recipe>(), key).unwrap_or_else(|| panic!("{key}"))
    }

    #[test]
    fn values_of_every_kind_are_told_with_an_example() {
        assert_eq!(of("train.steps").what, "a whole number");
        assert_eq!(of("train.steps").example, "1000");
        assert_eq!(of("train.ema").what, "a number");
        assert_eq!(of("data.files").what, "a list, each a text in quotes");
        assert_eq!(of("student.prelude_layers").what, "a whole number or \"auto\"");
        let init = of("student.init");
        assert!(init.what.starts_with("one of \"random\", \"first\", "), "{init:?}");
        assert_eq!(init.example, "\"least-squares\"");
        let law = of("depth.sampling");
        assert!(law.what.contains("{ kind = \"uniform\", least = 1, most = 1 }"), "{law:?}");
        assert_eq!(expected(&schema_of::<Recipe>(), "no.such.key"), None);
    }
}
