//! Recipes from files: read, changed by `--set`, checked, filled in.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::expected::{Expected, expected};
use super::keys::{self, Unknown};
use super::kind::verb_with;
use super::sections::{Recipe, TeacherConfig};
use super::{files, set, smoke};
use crate::disk::near;
use crate::error::{Error, Result};

/// A recipe file and what the command line changes about it.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// `a.b=c`, applied in order.
    pub set: Vec<String>,
    /// Wins over `[teacher]`.
    pub teacher: Option<String>,
    /// Wins over `teacher.live`, when set.
    pub live: bool,
    /// Wins over `seed`.
    pub seed: Option<u64>,
    /// Shrink it until it takes seconds.
    pub smoke: bool,
}

impl Source {
    /// Reads, changes, checks and fills in the recipe. Relative paths that exist in the current
    /// directory are kept, others start at the folder of the recipe.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, has an unknown key, or a value means nothing.
    pub fn read(&self) -> Result<Recipe> {
        let mut recipe: Recipe = read_as(&self.path, &self.set)?;
        if recipe.name.is_empty() {
            recipe.name = self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        if let Some(source) = &self.teacher {
            if recipe.is_pretraining() {
                return Err(Error::input(
                    "--teacher is given, but this recipe has [model]: it \
                    trains from nothing",
                )
                .at(self.path.display())
                .hint("give a recipe with [student]"));
            }
            let named = recipe.teacher.take().unwrap_or_default();
            let source = source.clone();
            recipe.teacher = Some(TeacherConfig { source, revision: None, ..named });
        }
        if self.live {
            recipe.teacher.get_or_insert_default().live = true;
        }
        recipe.seed = self.seed.unwrap_or(recipe.seed);
        if self.smoke {
            smoke::shrink(&mut recipe);
            recipe = self.set_again(recipe)?;
        }
        files::resolve(&mut recipe, self.path.parent().unwrap_or(Path::new("")));
        recipe.resolve().map_err(|error| error.at(self.path.display()))
    }

    /// What is set by hand wins over what makes a recipe small.
    fn set_again(&self, recipe: Recipe) -> Result<Recipe> {
        let failed =
            |error: &dyn std::fmt::Display| Error::internal(format!("a small recipe: {error}"));
        let mut table = Table::try_from(recipe).map_err(|error| failed(&error))?;
        for set in &self.set {
            set::apply(&mut table, set)?;
        }
        deserialize_table(table).map_err(|wrong| failed(&wrong.message))
    }
}

/// Reads a TOML file as a `T`, with what is set by hand; unknown keys are refused with the nearest
/// known one.
///
/// # Errors
/// The file cannot be read, is no TOML, has an unknown key, or a value is of the wrong kind.
pub fn read_as<T: DeserializeOwned + JsonSchema>(path: &Path, sets: &[String]) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::input("this recipe is not UTF-8 text").at(path.display()))?;
    parse(&text, &path.display().to_string(), sets).map_err(|error| error.at(path.display()))
}

/// Why a recipe cannot be read, and which one was probably meant.
fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    if path.is_dir() {
        let error = Error::input("this is a folder, and a recipe is a file").at(path.display());
        let inside = path.join("recipe.toml");
        return error.hint(if inside.exists() {
            format!("the recipe of this run is {}", inside.display())
        } else {
            "give a file that ends in .toml".to_owned()
        });
    }
    if error.kind() != std::io::ErrorKind::NotFound {
        return Error::io("reading", path, error);
    }
    let missing = Error::input("there is no such recipe").at(path.display());
    match near(path) {
        Some(near) => missing.hint(format!("did you mean {}?", near.display())),
        None => missing.hint(
            "`factorize recipes` lists those that ship, `factorize init` writes one of your own",
        ),
    }
}

/// The first lines of the recipe in a run folder.
const HEAD: &str = "# Written by factorize, every default filled in. Paths are absolute: this recipe \
                    can be run from\n# any folder.\n";

impl Recipe {
    /// As the file in a run folder: TOML that can be run from any folder, because its paths are
    /// absolute.
    ///
    /// # Errors
    /// A number is too large for TOML.
    pub fn to_file(&self) -> Result<String> {
        let mut absolute = self.clone();
        absolute.make_absolute();
        Ok(format!("{HEAD}{}", absolute.to_toml()?))
    }

    /// Makes every path absolute that names something here.
    pub fn make_absolute(&mut self) {
        files::make_absolute(self);
    }

    /// As TOML that [`Source::read`] reads as the same recipe.
    ///
    /// # Errors
    /// A number is too large for TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|error| Error::internal(format!("writing the recipe: {error}")))
    }
}

/// `name` is what the file is called in messages.
fn parse<T: DeserializeOwned + JsonSchema>(text: &str, name: &str, sets: &[String]) -> Result<T> {
    let spanned = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line(text, span.start));
        Error::input(format!("this is not valid TOML: {}", error.message()))
            .at(format!("{name}:{line}"))
    })?;
    let mut table: Table = toml::from_str(text).map_err(|error| {
        Error::input(format!("this is not valid TOML: {}", error.message())).at(name)
    })?;
    for set in sets {
        set::apply(&mut table, set)?;
    }
    let place = |key: &str| {
        let set_by = |covers: &dyn Fn(&str) -> bool| {
            sets.iter().rev().find(|set| set::key(set).is_some_and(covers))
        };
        let written = span_of(spanned.get_ref(), key);
        let set = set_by(&|set| covers(set, key))
            .or_else(|| set_by(&|set| covers(key, set)).filter(|_| written.is_none()));
        match (set, written) {
            (Some(set), _) => format!("--set {set}"),
            (None, Some(start)) => format!("{name}:{}", line(text, start)),
            (None, None) => name.to_owned(),
        }
    };
    let schema = keys::schema_of::<T>();
    if let Some(unknown) = keys::first_unknown(&schema, &table) {
        let place = place(&unknown.key);
        return Err(refuse_key(unknown, name).at(place));
    }
    let values = table.clone();
    deserialize_table(table).map_err(|wrong| {
        let place = wrong.key.as_deref().map_or_else(|| name.to_owned(), place);
        refuse_value(&wrong, &values, &schema).at(place)
    })
}

/// An unknown key, with the nearest known one; or the verb whose recipes have it.
fn refuse_key(unknown: Unknown, file: &str) -> Error {
    let Unknown { key, nearest, known } = unknown;
    if let Some(verb) = verb_with(&key) {
        return Error::input(format!(
            "unknown key `{key}`: it belongs to the recipes of `factorize {verb}`"
        ))
        .hint(format!("did you mean `factorize {verb} {file}`?"));
    }
    let error = Error::input(format!("unknown key `{key}`"));
    match nearest {
        Some(nearest) => error.hint(format!("did you mean `{nearest}`?")),
        None => error.hint(format!("known here: {}", known.join(", "))),
    }
}

/// A value of the wrong kind: what it is, what was expected, and an example.
fn refuse_value(wrong: &Wrong, table: &Table, schema: &Json) -> Error {
    let Some((key, expected)) =
        wrong.key.as_deref().and_then(|key| Some((key, expected(schema, key)?)))
    else {
        let of = wrong.key.as_ref().map(|key| format!("`{key}`: ")).unwrap_or_default();
        return Error::input(format!("{of}{}", wrong.message));
    };
    let Expected { what, example } = expected;
    let message = match wrong.message.strip_prefix("missing field ") {
        Some(field) => format!("`{key}` lacks {field}: expected {what}"),
        None => match value_of(table, key) {
            Some(value) => format!("`{key}` is {}, expected {what}", brief(value)),
            None => format!("`{key}`: {}", wrong.message),
        },
    };
    Error::input(message).hint(format!("for example: {key} = {example}"))
}

/// The value of a dotted key.
fn value_of<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    let mut parts = key.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

/// A value short enough for a message.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// What is wrong with a value, and its key where that is known.
struct Wrong {
    key: Option<String>,
    message: String,
}

fn deserialize_table<T: DeserializeOwned>(table: Table) -> std::result::Result<T, Wrong> {
    table.try_into().map_err(|error: toml::de::Error| {
        // The keys of an error are only in its text, on a line of their own.
        let text = error.to_string();
        let key = text.lines().rev().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
        Wrong { key: key.map(str::to_owned), message: error.message().to_owned() }
    })
}

/// Whether what is set at `set` decides `key`.
fn covers(set: &str, key: &str) -> bool {
    key == set || key.strip_prefix(set).is_some_and(|rest| rest.starts_with('.'))
}

/// Where the longest written part of a dotted key stands in the text.
fn span_of(table: &DeTable, key: &str) -> Option<usize> {
    let (first, rest) =
        key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (name, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == first)?;
    let deeper = match (value.get_ref(), rest) {
        (DeValue::Table(table), Some(rest)) => span_of(table, rest),
        _ => None,
    };
    deeper.or(Some(name.span().start))
}

/// The line of a byte, counted from 1.
fn line(text: &str, byte: usize) -> usize {
    1 + text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        parse::<Recipe>(text, "a.toml", &sets).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_right_one() {
        let text = refused("seed = 1\n\n[student]\nrepetition = 3\n", &[]);
        assert!(text.contains("unknown key `student.repetition`\n  in a.toml:4\n"), "{text}");
        assert!(text.ends_with("did you mean `student.repetitions`?"), "{text}");
        let text = refused("[train.optimizer]\nxyzzy = 1", &[]);
        assert!(
            text.contains("`train.optimizer.xyzzy`") && text.contains("known here: "),
            "{text}"
        );
        let text = refused("[student.relaxation]\nkind = \"lora\"\nrnak = 4", &[]);
        assert!(text.contains("did you mean `student.relaxation.rank`"), "{text}");
        let text = refused("", &["trian.steps=4"]);
        assert!(text.contains("in --set trian.steps=4\n\nhint: did you mean `train`?"), "{text}");
    }

    #[test]
    fn a_key_is_read_by_its_earlier_name() {
        let text = "[depth]\nlaw = { kind = \"uniform\", least = 1, most = 3 }";
        let old: Recipe = parse(text, "a.toml", &[]).unwrap();
        let new: Recipe = parse(&text.replace("law", "sampling"), "a.toml", &[]).unwrap();
        assert_eq!(old, new);
        let law = refused("depth.law = 3", &[]);
        assert!(law.starts_with("`depth.law`"), "{law}");
    }

    #[test]
    fn a_key_of_another_kind_of_recipe_names_the_verb() {
        let text = refused("[controls]\nuntied = true", &[]);
        assert!(text.contains("the recipes of `factorize law`"), "{text}");
        assert!(text.ends_with("did you mean `factorize law a.toml`?"), "{text}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_with_its_key_and_line() {
        let text = refused("[train]\nsteps = \"many\"", &[]);
        assert!(text.starts_with("`train.steps` is \"many\", expected a whole number"), "{text}");
        assert!(text.contains("in a.toml:2"), "{text}");
        assert!(text.ends_with("for example: train.steps = 1000"), "{text}");
        let text = refused("depth.sampling = \"uniform\"", &[]);
        assert!(text.starts_with("`depth.sampling` is \"uniform\", expected one of "), "{text}");
        assert!(text.contains("{ kind = \"uniform\", least = 1, most = 1 }"), "{text}");
        let text = refused("[depth.sampling]\nkind = \"uniform\"\nmost = 3", &[]);
        assert!(text.starts_with("`depth.sampling` lacks `least`: expected one of "), "{text}");
        let text = refused("student.prelude_layers = \"many\"", &[]);
        assert!(text.contains("is \"many\", expected a whole number or \"auto\""), "{text}");
        assert!(refused("[train\n", &[]).contains("this is not valid TOML"), "no TOML");
    }
}
