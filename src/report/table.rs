//! Tables of results: typed cells, formatted a column at a time, rendered to HTML or Markdown.
//!
//! Every number of a column has the same decimals, so that columns can be compared at sight. An
//! estimate with an interval reads `54.2 [50.2, 60.1]`; the head of its column names the interval.

use super::fitted::Fitted;
use super::plot::{Element, short};

/// A table of results.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Short name by which one table of a report can be chosen.
    pub name: String,
    /// What the table shows.
    pub caption: String,
    /// Whether the table is too long to be shown unless it is chosen by its name.
    pub on_request: bool,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column: its head, and how its numbers are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    head: String,
    format: Format,
}

/// How the numbers of a column are written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    /// As many decimals as the cell that needs most of them, to about four digits.
    Auto,
    /// This many decimals.
    Fixed(usize),
    /// A share of 0 to 1 as a percentage with one decimal.
    Percent,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A value that the data does not have.
    Missing,
    /// Text as it is; an empty one where nothing belongs.
    Text(String),
    /// A number.
    Number(f64),
    /// An estimate and the ends of its interval; an end that is missing is open.
    Estimate {
        /// The estimate.
        value: f64,
        /// Lower end.
        low: Option<f64>,
        /// Upper end.
        high: Option<f64>,
    },
}

impl Column {
    /// Text, or numbers of about four digits with the same decimals.
    pub(super) fn new(head: &str) -> Self {
        Self { head: head.to_owned(), format: Format::Auto }
    }

    /// Numbers with this many decimals.
    pub(super) fn fixed(head: &str, decimals: usize) -> Self {
        Self { head: head.to_owned(), format: Format::Fixed(decimals) }
    }

    /// Shares as percentages.
    pub(super) fn percent(head: &str) -> Self {
        Self { head: head.to_owned(), format: Format::Percent }
    }
}

impl Table {
    /// A table with rows of as many cells as it has columns; without rows it is left out by
    /// whatever renders it.
    pub(super) fn new(
        name: &str,
        caption: &str,
        columns: Vec<Column>,
        rows: Vec<Vec<Cell>>,
    ) -> Self {
        debug_assert!(rows.iter().all(|row| row.len() == columns.len()), "{caption}");
        let (name, caption) = (name.to_owned(), caption.to_owned());
        Self { name, caption, on_request: false, columns, rows }
    }

    /// The same table, shown only when it is chosen by its name.
    pub(super) fn shown_on_request(self) -> Self {
        Self { on_request: true, ..self }
    }

    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As a table of GitHub's Markdown, without the caption; it ends with a line break.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let written = self.written();
        let heads = self.columns.iter().map(|column| escaped(&column.head)).collect();
        let rule = |numeric: &bool| if *numeric { "---:" } else { "---" }.to_owned();
        let mut text = line(heads) + &line(self.numeric().iter().map(rule).collect());
        for (row, cells) in self.rows.iter().zip(&written) {
            let cell = |(cell, text): (&Cell, &String)| match cell {
                Cell::Text(_) => escaped(text),
                _ => text.clone(),
            };
            text += &line(row.iter().zip(cells).map(cell).collect());
        }
        text
    }

    /// As an element of a page.
    pub(super) fn element(&self) -> Element {
        let numeric = self.numeric();
        let row = |cells: &[String], kind: &'static str| {
            let cell = |(text, numeric): (&String, &bool)| {
                let cell = Element::new(kind).text(text);
                if *numeric { cell.set("class", "number") } else { cell }
            };
            Element::new("tr").children(cells.iter().zip(&numeric).map(cell))
        };
        let heads: Vec<String> = self.columns.iter().map(|column| column.head.clone()).collect();
        let head = Element::new("thead").child(row(&heads, "th"));
        let rows = self.written();
        let body = Element::new("tbody").children(rows.iter().map(|cells| row(cells, "td")));
        let caption = Element::new("caption").text(&self.caption);
        Element::new("table").child(caption).child(head).child(body)
    }

    /// Whether each column holds numbers alone, empty cells aside.
    fn numeric(&self) -> Vec<bool> {
        let column = |at: usize| {
            let mut cells = self.rows.iter().map(|row| &row[at]).filter(|cell| !cell.is_blank());
            let all = self
                .rows
                .iter()
                .all(|row| !matches!(&row[at], Cell::Text(text) if !text.is_empty()));
            all && cells.next().is_some()
        };
        (0..self.columns.len()).map(column).collect()
    }

    /// The cells as text.
    fn written(&self) -> Vec<Vec<String>> {
        let decimals: Vec<usize> = (0..self.columns.len()).map(|at| self.decimals(at)).collect();
        let cell = |(at, cell): (usize, &Cell)| match self.columns[at].format {
            Format::Percent => cell.written(&|share| format!("{:.1} %", 100.0 * share)),
            Format::Auto | Format::Fixed(_) => cell.written(&|value| fixed(value, decimals[at])),
        };
        self.rows.iter().map(|row| row.iter().enumerate().map(cell).collect()).collect()
    }

    fn decimals(&self, at: usize) -> usize {
        match self.columns[at].format {
            Format::Fixed(decimals) => decimals,
            Format::Percent => 1,
            Format::Auto => common_decimals(self.rows.iter().flat_map(|row| row[at].numbers())),
        }
    }
}

impl Cell {
    fn is_blank(&self) -> bool {
        matches!(self, Self::Missing) || matches!(self, Self::Text(text) if text.is_empty())
    }

    fn numbers(&self) -> Vec<f64> {
        match self {
            Self::Missing | Self::Text(_) => Vec::new(),
            Self::Number(value) => vec![*value],
            Self::Estimate { value, low, high } => {
                [Some(*value), *low, *high].into_iter().flatten().collect()
            }
        }
    }

    fn written(&self, write: &dyn Fn(f64) -> String) -> String {
        match self {
            Self::Missing => "–".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Number(value) | Self::Estimate { value, low: None, high: None } => write(*value),
            Self::Estimate { value, low, high } => {
                let end = |end: &Option<f64>| end.map_or_else(|| "open".to_owned(), write);
                format!("{} [{}, {}]", write(*value), end(low), end(high))
            }
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Missing, Self::Number)
    }
}

impl From<Fitted> for Cell {
    fn from(fitted: Fitted) -> Self {
        let Fitted { estimate, low, high } = fitted;
        estimate.map_or(Self::Missing, |value| Self::Estimate { value, low, high })
    }
}

/// The most decimals that any of the numbers needs when it is written with about four digits.
pub(super) fn common_decimals(numbers: impl IntoIterator<Item = f64>) -> usize {
    let needed = |value: f64| {
        let text = short(value);
        let decimals = text.split_once('.').filter(|_| !text.contains('e'));
        decimals.map_or(0, |(_, decimals)| decimals.len())
    };
    numbers.into_iter().map(needed).max().unwrap_or(0)
}

/// A number with so many decimals; one that these cannot show is written with an exponent.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    let size = value.abs();
    let vanishes = size > 0.0 && size < 0.5 * 10_f64.powi(-(decimals as i32));
    if !value.is_finite() || size >= 1e7 || (vanishes && size < 1e-4) {
        return short(value);
    }
    format!("{value:.decimals$}")
}

/// Text that Markdown shows as it is, within a cell of a table.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => escaped.push(' '),
            '|' | '\\' | '`' | '*' | '_' | '<' | '~' | '&' => escaped.extend(['\\', character]),
            _ => escaped.push(character),
        }
    }
    escaped
}
