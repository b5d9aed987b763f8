//! The keys that a recipe has: JSON schemas, and the first key that none of them knows.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

/// The JSON schema of a kind of recipe, for editors, and to find unknown keys.
#[must_use]
pub fn schema_of<T: JsonSchema>() -> Json {
    SchemaGenerator::default().into_root_schema_for::<T>().to_value()
}

/// A key that no section has.
pub(super) struct Unknown {
    /// Dotted, from the top.
    pub(super) key: String,
    /// The key that was probably meant, dotted.
    pub(super) nearest: Option<String>,
    /// The keys of its section.
    pub(super) known: Vec<String>,
}

/// The first key of `table` that its schema does not know.
pub(super) fn first_unknown(schema: &Json, table: &Table) -> Option<Unknown> {
    let empty = Map::new();
    let definitions = schema["$defs"].as_object().unwrap_or(&empty);
    Keys { definitions }.unknown(table, &[schema], "")
}

struct Keys<'a> {
    definitions: &'a Map<String, Json>,
}

impl<'a> Keys<'a> {
    fn unknown(&self, table: &Table, schemas: &[&'a Json], path: &str) -> Option<Unknown> {
        let objects = self.objects(table, schemas);
        if objects.is_empty() {
            return None;
        }
        let full = |key: &str| if path.is_empty() { key.into() } else { format!("{path}.{key}") };
        table.iter().find_map(|(key, value)| {
            let inner: Vec<&Json> = objects.iter().filter_map(|keys| named(keys, key)).collect();
            if inner.is_empty() {
                let known: Vec<String> = objects.iter().flat_map(|k| k.keys()).cloned().collect();
                let nearest = nearest(key, &known).map(full);
                return Some(Unknown { key: full(key), nearest, known });
            }
            match value {
                Value::Table(table) => self.unknown(table, &inner, &full(key)),
                Value::Array(list) => {
                    let items: Vec<&Json> =
                        inner.iter().flat_map(|schema| self.variants(schema)).collect();
                    let items: Vec<&Json> = items.iter().filter_map(|s| s.get("items")).collect();
                    let path = full(key);
                    let tables = list.iter().filter_map(Value::as_table);
                    tables.into_iter().find_map(|table| self.unknown(table, &items, &path))
                }
                _ => None,
            }
        })
    }

    /// The keys of every kind of table that may stand here; of those with a `kind`, only the one
    /// the table names.
    fn objects(&self, table: &Table, schemas: &[&'a Json]) -> Vec<&'a Map<String, Json>> {
        let keys: Vec<&Map<String, Json>> = schemas
            .iter()
            .flat_map(|schema| self.variants(schema))
            .filter_map(|schema| schema.get("properties")?.as_object())
            .collect();
        let kind = |keys: &Map<String, Json>| Some(keys.get("kind")?.get("const")?.clone());
        let wanted = table.get("kind").and_then(Value::as_str);
        let named: Vec<_> = keys
            .iter()
            .copied()
            .filter(|keys| kind(keys).is_some_and(|kind| kind.as_str() == wanted))
            .collect();
        if named.is_empty() { keys } else { named }
    }

    /// The alternatives of a schema, references followed.
    fn variants(&self, schema: &'a Json) -> Vec<&'a Json> {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            return self
                .definitions
                .get(name)
                .map(|schema| self.variants(schema))
                .unwrap_or_default();
        }
        let inner = ["anyOf", "oneOf", "allOf"].into_iter().find_map(|key| schema[key].as_array());
        match inner {
            Some(list) => list.iter().flat_map(|schema| self.variants(schema)).collect(),
            None => vec![schema],
        }
    }
}

/// The schema of a key, which may be written by its earlier name.
fn named<'a>(keys: &'a Map<String, Json>, key: &str) -> Option<&'a Json> {
    keys.get(key).or_else(|| keys.values().find(|schema| schema[ALIAS] == key))
}

/// Where a schema keeps the earlier name of its key, which serde reads too.
const ALIAS: &str = "x-alias";

/// Alike enough to have been meant: two thirds of the letters in order, or a beginning.
const LIKENESS: f64 = 0.75;

fn nearest<'k>(key: &str, known: &'k [String]) -> Option<&'k str> {
    let likeness = |other: &str| {
        let last = other.rsplit('_').next().unwrap_or(other);
        let part = other.split('_').any(|part| part == key) || last == key;
        if part { 1.0 } else { strsim::jaro_winkler(key, other) }
    };
    let scored = known.iter().map(|other| (likeness(other), other.as_str()));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS).then_some(best.1)
}
