//! Columns of numbers read from a CSV file.

use crate::error::{Error, Result};

/// Rows under a header.
#[derive(Debug, Clone)]
pub struct Table {
    place: String,
    header: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    line: u64,
    fields: Vec<String>,
}

impl Table {
    /// Reads CSV text whose first line names the columns; `place` is where errors say it is from.
    ///
    /// # Errors
    /// A row has more or fewer fields than the header, or two columns share a name.
    pub fn read(text: &str, place: &str) -> Result<Self> {
        let broken = |error: csv::Error| {
            Error::input(format!("found broken CSV: {error}"))
                .hint("every line needs as many fields as the header")
                .at(place)
        };
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let header: Vec<String> =
            reader.headers().map_err(broken)?.iter().map(str::to_owned).collect();
        for (index, name) in header.iter().enumerate() {
            if header[..index].contains(name) {
                return Err(Error::input(format!(
                    "line 1: found two columns `{name}`, expected one"
                ))
                .hint("rename or remove one of them")
                .at(place));
            }
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(0, csv::Position::line);
            rows.push(Row { line, fields: record.iter().map(str::to_owned).collect() });
        }
        Ok(Self { place: place.to_owned(), header, rows })
    }

    /// How many rows stand under the header.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Nothing but a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The first of `names` that is a column.
    #[must_use]
    pub fn first_of<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.header.iter().any(|column| column == name))
    }

    /// A column as text.
    ///
    /// # Errors
    /// There is no such column.
    pub fn texts(&self, name: &str) -> Result<Vec<&str>> {
        Ok(self.fields(name)?.map(|(_, field)| field).collect())
    }

    /// A column of finite numbers.
    ///
    /// # Errors
    /// There is no such column, or a field is not a finite number.
    pub fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        self.fields(name)?.map(|(line, field)| self.number(name, line, field)).collect()
    }

    /// A column of finite numbers, some of them left empty.
    ///
    /// # Errors
    /// There is no such column, or a field is neither empty nor a finite number.
    pub fn optional_numbers(&self, name: &str) -> Result<Vec<Option<f64>>> {
        let one = |(line, field): (u64, &str)| match field {
            "" => Ok(None),
            field => self.number(name, line, field).map(Some),
        };
        self.fields(name)?.map(one).collect()
    }

    /// A column of whole numbers.
    ///
    /// # Errors
    /// There is no such column, or a field is not a whole number.
    pub fn counts(&self, name: &str) -> Result<Vec<u64>> {
        let one = |(line, field): (u64, &str)| {
            field.parse().map_err(|_| self.refused(name, line, field, "a whole number"))
        };
        self.fields(name)?.map(one).collect()
    }

    fn fields(&self, name: &str) -> Result<impl Iterator<Item = (u64, &str)>> {
        let column = self.header.iter().position(|column| column == name).ok_or_else(|| {
            Error::input(format!("found columns {:?}, expected `{name}` among them", self.header))
                .hint("name it in the first line")
                .at(&self.place)
        })?;
        Ok(self.rows.iter().map(move |row| (row.line, row.fields[column].as_str())))
    }

    fn number(&self, name: &str, line: u64, field: &str) -> Result<f64> {
        let number = field.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.refused(name, line, field, "a number"))
    }

    fn refused(&self, name: &str, line: u64, field: &str, expected: &str) -> Error {
        Error::input(format!("line {line}, column `{name}`: found `{field}`, expected {expected}"))
            .hint("decimals take a point, and an unknown bound stays empty")
            .at(&self.place)
    }
}
