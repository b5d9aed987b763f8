//! CSV files as tables: the points of a study, or measurements of any kind.
//!
//! Lines at the top that begin with `#` are the caption. A column of numbers alone is written as
//! numbers.

use std::path::{Path, PathBuf};

use super::page::{Item, Section};
use super::table::{Cell, Column, Table};

/// Whether CSV tables are shown without being chosen by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Always.
    Always,
    /// Only when they are chosen by name: other data of the folder says the same in brief.
    OnRequest,
}

/// A table for each CSV file of the folder, if it has any.
pub(super) fn compose(folder: &Path, shown: Shown) -> Option<Section> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "csv"))
        .collect();
    paths.sort();
    if paths.is_empty() {
        return None;
    }
    let items = paths.iter().map(|path| match read(path) {
        Ok(table) if shown == Shown::OnRequest => Item::Table(table.shown_on_request()),
        Ok(table) => Item::Table(table),
        Err(error) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Item::Note(format!("{name} cannot be read, so its table is missing here: {error}"))
        }
    });
    Some(Section { title: "Measurements".into(), items: items.collect() })
}

fn read(path: &Path) -> Result<Table, csv::Error> {
    let text = std::fs::read_to_string(path)?;
    let comments = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
    let heads = reader.headers()?.clone();
    let records = reader.records().collect::<Result<Vec<_>, _>>()?;
    let is_number =
        |field: &str| field.is_empty() || field.parse().is_ok_and(|value: f64| value.is_finite());
    let numeric: Vec<bool> = (0..heads.len())
        .map(|at| records.iter().all(|record| record.get(at).is_none_or(is_number)))
        .collect();
    let cell = |(field, numeric): (&str, &bool)| match field.parse() {
        Ok(value) if *numeric => Cell::Number(value),
        _ => Cell::from(field),
    };
    let rows = records.iter().map(|record| record.iter().zip(&numeric).map(cell).collect());
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut caption = comments.collect::<Vec<_>>().join(" ");
    if caption.is_empty() {
        caption.clone_from(&name);
    }
    let columns = heads.iter().map(Column::new).collect();
    Ok(Table::new(&name, &caption, columns, rows.collect()))
}
