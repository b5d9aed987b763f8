//! Changes of a recipe by `--set a.b=c`.

use toml::{Table, Value};

use crate::error::{Error, Result};

/// The key of `a.b=c`.
pub(super) fn key(set: &str) -> Option<&str> {
    set.split_once('=').map(|(key, _)| key.trim())
}

/// Sets the value of a dotted key, parsed as TOML or else taken as text.
///
/// # Errors
/// There is no `=`, or a part of the key is not a table.
pub(super) fn apply(table: &mut Table, set: &str) -> Result<()> {
    let (key, value) = set.split_once('=').ok_or_else(|| {
        Error::input(format!("--set {set} sets nothing: there is no `=` in it"))
            .hint("write --set train.steps=100")
    })?;
    let value = value.trim();
    // `x = 1` and `x = [1, 2]` are TOML; `x = interpolated` is not, and is taken as text.
    let value = toml::from_str::<Table>(&format!("x = {value}"))
        .ok()
        .filter(|parsed| parsed.len() == 1)
        .and_then(|mut parsed| parsed.remove("x"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let parts: Vec<&str> = key.trim().split('.').map(str::trim).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(Error::input(format!("--set {set}: `{key}` is not a key")));
    }
    let (last, outer) = parts.split_last().expect("splitting gives at least one part");
    let mut inner_table = table;
    for part in outer {
        let inner = inner_table.entry(*part).or_insert_with(|| Value::Table(Table::new()));
        inner_table = inner
            .as_table_mut()
            .ok_or_else(|| Error::input(format!("--set {set}: `{part}` holds no keys")))?;
    }
    inner_table.insert((*last).to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_or_else_text() {
        let mut table: Table = toml::from_str("a = 1\n[b]\nc = 2").unwrap();
        for set in ["a=2.5", "b.c=[1, 2]", "b.d = every-nth", "e.f={ kind = \"none\" }", "g=\"7\""]
        {
            apply(&mut table, set).unwrap();
        }
        let expected =
            "a = 2.5\ng = \"7\"\n[b]\nc = [1, 2]\nd = \"every-nth\"\n[e.f]\nkind = \"none\"";
        assert_eq!(table, toml::from_str(expected).unwrap());
        assert!(apply(&mut table, "a.b=1").is_err());
        assert!(apply(&mut table, "a").unwrap_err().to_string().contains("no `=`"));
    }
}
