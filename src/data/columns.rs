//! Reading of the string columns of a Parquet file.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::ByteArrayType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::utf8::utf8;
use crate::error::{Error, Result};

/// Rows decoded at once: their strings are in memory together.
const ROWS: usize = 256;

/// Gives the strings of the column `field`, leaving nulls out.
pub(super) fn each_string(
    path: &Path,
    field: &str,
    take: &mut dyn FnMut(String) -> Result<()>,
) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::io("opening", path, &error))?;
    let reader = decode(path, || SerializedFileReader::new(file))?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let column = find(schema, field).map_err(|error| error.at(path.display()))?;
    let nullable = schema.column(column).max_def_level();
    let mut row = 0;
    for group in 0..reader.num_row_groups() {
        let strings = decode(path, || reader.get_row_group(group)?.get_column_reader(column))?;
        let ColumnReader::ByteArrayColumnReader(mut strings) = strings else {
            return Err(Error::input(format!("row group {group} disagrees with the schema"))
                .at(path.display()));
        };
        while let Some(batch) = decode(path, || next(&mut strings, nullable))? {
            for bytes in batch {
                row += 1;
                let Some(bytes) = bytes else { continue };
                let place = || format!("{}, column `{field}`, row {row}", path.display());
                take(utf8(bytes, 0).map_err(|error| error.at(place()))?)?;
            }
        }
    }
    Ok(())
}

/// Up to [`ROWS`] rows, a null as none; none at the end of the row group.
fn next(
    strings: &mut ColumnReaderImpl<ByteArrayType>,
    nullable: i16,
) -> std::result::Result<Option<Vec<Option<Vec<u8>>>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (rows, _, _) = strings.read_records(ROWS, Some(&mut levels), None, &mut values)?;
    if rows == 0 {
        return Ok(None);
    }
    let mut values = values.into_iter().map(|value| value.data().to_vec());
    if nullable == 0 {
        return Ok(Some(values.map(Some).collect()));
    }
    // A value is stored where its definition level is the highest.
    let present = levels.into_iter().map(|level| level == nullable);
    Ok(Some(present.map(|present| if present { values.next() } else { None }).collect()))
}

fn find(schema: &SchemaDescriptor, field: &str) -> Result<usize> {
    let columns = schema.columns();
    let found = columns.iter().position(|column| column.path().string() == field);
    let Some(index) = found else {
        let names = columns.iter().map(|column| format!("`{}`", column.path().string()));
        let names = names.collect::<Vec<_>>().join(", ");
        return Err(Error::input(format!("there is no column `{field}`; the columns are {names}"))
            .hint("name the column that holds the text: data.field"));
    };
    let column = &columns[index];
    if !holds_text(column) {
        return Err(Error::input(format!(
            "column `{field}` should hold text, but holds {}",
            column.physical_type()
        )));
    }
    if column.max_rep_level() > 0 {
        return Err(Error::input(format!("column `{field}` holds lists, expected one text a row")));
    }
    Ok(index)
}

fn holds_text(column: &ColumnDescriptor) -> bool {
    let is_text = match column.logical_type_ref() {
        Some(logical) => {
            matches!(logical, LogicalType::String | LogicalType::Json | LogicalType::Enum)
        }
        None => matches!(
            column.converted_type(),
            ConvertedType::NONE | ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM
        ),
    };
    column.physical_type() == Type::BYTE_ARRAY && is_text
}

/// The error of the crate about a damaged file; on some damage it panics instead.
fn decode<T>(
    path: &Path,
    read: impl FnOnce() -> std::result::Result<T, ParquetError>,
) -> Result<T> {
    let hint = "was it downloaded completely?";
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let text = error.to_string();
            let compressed = text.contains("Disabled feature");
            Err(Error::input(format!("this Parquet file cannot be read: {text}"))
                .at(path.display())
                .hint(if compressed { "rewrite it with snappy or zstd compression" } else { hint }))
        }
        Err(_) => Err(Error::input("this Parquet file cannot be read: it is damaged")
            .at(path.display())
            .hint(hint)),
    }
}
