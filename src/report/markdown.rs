//! The tables of a report as GitHub's Markdown, for a README.

use super::page::{Item, Section};
use super::table::{Column, Table};
use crate::error::{Error, Result};

/// The tables of `sections`; with `names`, only those of these names. Several tables stand each
/// under its caption, one alone without.
///
/// # Errors
/// There is no table of a name.
pub fn markdown(sections: &[Section], names: &[String]) -> Result<String> {
    let tables: Vec<(Option<&str>, Table)> = sections.iter().flat_map(tables).collect();
    let of_name = |name: &str| tables.iter().filter(|(_, table)| table.name == name).count();
    if let Some(name) = names.iter().find(|name| of_name(name) == 0) {
        let mut known: Vec<&str> = tables.iter().map(|(_, table)| table.name.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        let known = known.join(", ");
        return Err(Error::input(format!("there is no table `{name}`, expected one of: {known}")));
    }
    let is_shown = |table: &Table| match names {
        [] => !table.on_request,
        names => names.contains(&table.name),
    };
    let shown: Vec<_> = tables.iter().filter(|(_, table)| is_shown(table)).collect();
    if let [(_, table)] = shown[..] {
        return Ok(table.markdown());
    }
    let parts = shown.iter().map(|(heading, table)| {
        // Tables of one name are told apart by the headings they stand under.
        let heading = heading.filter(|_| of_name(&table.name) > 1);
        let heading = heading.map(|heading| format!("{heading}. ")).unwrap_or_default();
        format!("{heading}{}:\n\n{}", table.caption, table.markdown())
    });
    Ok(parts.collect::<Vec<_>>().join("\n"))
}

/// What a reader must not miss, such as that a study is not finished.
#[must_use]
pub fn notes(sections: &[Section]) -> Vec<&str> {
    let items = sections.iter().flat_map(|section| &section.items);
    items
        .filter_map(|item| if let Item::Note(text) = item { Some(text.as_str()) } else { None })
        .collect()
}

/// Tables that have rows, each with the heading that it stands under.
fn tables(section: &Section) -> Vec<(Option<&str>, Table)> {
    let mut heading = None;
    let mut tables = Vec::new();
    for item in &section.items {
        match item {
            Item::Heading(text) => heading = Some(text.as_str()),
            Item::Numbers(numbers) => tables.push((heading, summary(numbers))),
            Item::Table(table) if !table.is_empty() => tables.push((heading, table.clone())),
            _ => {}
        }
    }
    tables
}

/// The numbers that matter most, as a table.
fn summary(numbers: &[(String, String)]) -> Table {
    let row = |(name, value): &(String, String)| vec![name.clone().into(), value.clone().into()];
    let columns = vec![Column::new("quantity"), Column::new("value")];
    Table::new("summary", "In brief", columns, numbers.iter().map(row).collect())
}
