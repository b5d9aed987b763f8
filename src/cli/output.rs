//! How does a result reach stdout?

use std::io::{ErrorKind, IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::error::{Error, Result};

/// Writes text to stdout. Who closes the pipe early has read enough.
pub(super) fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::io("writing", "stdout", &error)),
        Ok(()) => Ok(()),
    }
}

/// A line.
pub(super) fn line(text: &str) -> Result<()> {
    write(&format!("{text}\n"))
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::internal(format!("writing JSON: {error}")))?;
    line(&text)
}

/// A head and rows. Numbers stand to the right, and borders are for terminals.
pub(super) fn table(rows: &[Vec<String>]) -> Result<()> {
    let Some((head, rows)) = rows.split_first() else { return Ok(()) };
    let mut table = Table::new();
    let preset = if std::io::stdout().is_terminal() {
        presets::UTF8_FULL_CONDENSED
    } else {
        presets::NOTHING
    };
    table.load_style(preset).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let text = table.to_string();
    let trimmed: Vec<&str> = text.lines().map(str::trim_end).collect();
    line(&trimmed.join("\n"))
}
