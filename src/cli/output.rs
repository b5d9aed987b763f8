//! Results on stdout: text, JSON, and tables that fit the terminal.

use std::io::{ErrorKind, IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table};
use comfy_table::{TableStyle, presets};
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

/// Sentences, wrapped to the terminal.
pub(super) fn paragraph(text: &str) -> Result<()> {
    line(&wrapped(text, terminal_width().unwrap_or(USUAL_WIDTH).min(WIDEST_TEXT)))
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::internal(format!("writing JSON: {error}")).caused_by(error))?;
    line(&text)
}

/// Columns of text where stdout is no terminal.
const USUAL_WIDTH: usize = 80;
/// Longer lines are hard to read.
const WIDEST_TEXT: usize = 100;

/// Columns of the terminal; none where stdout is no terminal.
fn terminal_width() -> Option<usize> {
    let size = std::io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    size.map(|(width, _)| usize::from(width.0))
}

/// A head and rows, numbers to the right.
pub(super) fn table(rows: &[Vec<String>]) -> Result<()> {
    table_without(rows, &[])
}

/// A head and rows of text, all to the left.
pub(super) fn table_text(rows: &[Vec<String>]) -> Result<()> {
    let width = terminal_width().unwrap_or(USUAL_WIDTH);
    line(&layout(rows, Some(width), &[], CellAlignment::Left))
}

/// The same; in a terminal that is too narrow, columns are left out in the order of `droppable`, and
/// a line names them.
pub(super) fn table_without(rows: &[Vec<String>], droppable: &[&str]) -> Result<()> {
    line(&layout(rows, terminal_width(), droppable, CellAlignment::Right))
}

/// A line below the head, where a person reads it.
const RULED: TableStyle = presets::NOTHING.header_separator(LineStyle::none().fill('─'));

/// The lines of a table. `width` is that of the terminal; what is read by a program has no width.
fn layout(
    rows: &[Vec<String>],
    width: Option<usize>,
    droppable: &[&str],
    alignment: CellAlignment,
) -> String {
    let (mut rows, mut dropped) = (rows.to_vec(), Vec::new());
    if let Some(width) = width {
        for name in droppable {
            if natural_width(&rows) <= width {
                break;
            }
            let place = rows.first().and_then(|head| head.iter().position(|cell| cell == name));
            if let Some(place) = place {
                rows.iter_mut().for_each(|row| drop(row.remove(place)));
                dropped.push(*name);
            }
        }
    }
    let Some((head, body)) = rows.split_first() else { return String::new() };
    let head = head.iter().enumerate().map(|(place, cell)| wrapped(cell, body_width(body, place)));
    let mut table = Table::new();
    table.load_style(if width.is_some() { RULED } else { presets::NOTHING });
    match width.filter(|width| natural_width(&rows) > *width) {
        None => table.set_content_arrangement(ContentArrangement::Disabled),
        Some(width) => {
            let width = u16::try_from(width).unwrap_or(u16::MAX);
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width)
        }
    };
    table.set_header(head.collect::<Vec<_>>()).add_rows(body);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(alignment);
    }
    let text = table.to_string();
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    if !dropped.is_empty() {
        lines.push(format!("(left out for lack of room: {}; --json has all)", dropped.join(", ")));
    }
    lines.join("\n")
}

/// Columns of a cell and the gap beside it.
const GAP: usize = 2;

/// How wide a table is whose head is wrapped and whose cells are not.
fn natural_width(rows: &[Vec<String>]) -> usize {
    let Some((head, body)) = rows.split_first() else { return 0 };
    let column = |(place, cell): (usize, &String)| {
        let width = body_width(body, place);
        let head = wrapped(cell, width).lines().map(|line| line.chars().count()).max();
        head.unwrap_or(0).max(width) + GAP
    };
    head.iter().enumerate().map(column).sum()
}

/// The widest cell below the head.
fn body_width(body: &[Vec<String>], place: usize) -> usize {
    body.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count()).max().unwrap_or(0)
}

/// `text` in lines of at most `width` characters, broken at spaces; a longer word has its own line.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.split('\n') {
        lines.push(String::new());
        for word in paragraph.split(' ') {
            let last = lines.last_mut().expect("a line was pushed");
            if last.is_empty() {
                last.push_str(word);
            } else if last.chars().count() + 1 + word.chars().count() <= width {
                last.push(' ');
                last.push_str(word);
            } else {
                lines.push(word.to_owned());
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let rows = [
            ["model", "perplexity [95\u{a0}%\u{a0}CI]", "KL, nats", "cosine"],
            ["teacher", "49.3 [45.9, 54.3]", "", ""],
            ["student", "54.2 [50.2, 60.1]", "0.101", "0.987"],
        ];
        rows.map(|row| row.map(str::to_owned).to_vec()).to_vec()
    }

    #[test]
    fn a_head_is_wrapped_to_the_width_of_its_column() {
        let text = layout(&rows(), None, &[], CellAlignment::Right);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["model", "perplexity", "KL,", "cosine"]
        );
        assert!(lines[1].contains("[95\u{a0}%\u{a0}CI]") && lines[1].contains("nats"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_loses_columns_by_name_and_no_line_is_wider() {
        for width in [24, 30, 36, 44, 80] {
            let text = layout(&rows(), Some(width), &["cosine", "KL, nats"], CellAlignment::Right);
            let table = text.lines().filter(|line| !line.starts_with('('));
            let widest = table.map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= width, "{width}: {widest}\n{text}");
            assert_eq!(text.contains("0.987"), width >= 44, "{width}\n{text}");
            assert_eq!(text.contains("left out for lack of room: cosine"), width < 44, "{text}");
        }
        assert!(!layout(&rows(), None, &["cosine"], CellAlignment::Right).contains("left out"));
    }

    #[test]
    fn sentences_are_broken_at_spaces() {
        assert_eq!(wrapped("one two three", 7), "one two\nthree");
        assert_eq!(wrapped("a_long_word x", 4), "a_long_word\nx");
    }
}
