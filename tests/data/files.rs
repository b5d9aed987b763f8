//! Every kind of file is read, and every bad one is named with what is wrong.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use factorexe::data::{Split, read_documents};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::{config, folder, open, strings, texts, write};

/// Texts, some missing, beside a column of numbers; two row groups.
fn write_parquet(path: &Path, rows: &[Option<&[u8]>]) {
    let schema = "message rows { required int64 id; optional binary text (utf8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties =
        WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(rows.len().div_ceil(2)) {
        let mut group = writer.next_row_group().unwrap();
        let ids: Vec<i64> = (0..rows.len() as i64).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
        let values: Vec<_> =
            rows.iter().flatten().map(|row| ByteArray::from(row.to_vec())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn read(folder: &Path, pattern: &str, field: &str) -> factorexe::Result<Vec<String>> {
    let documents = read_documents(&strings(&[pattern]), folder, field)?;
    Ok(documents.into_iter().map(|document| document.text).collect())
}

/// The error says all of `parts`, in its message, place or hint.
fn refuses(folder: &Path, pattern: &str, field: &str, parts: &[&str]) {
    let error = read(folder, pattern, field).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let error = error.to_string();
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn every_kind_of_file_is_read() {
    let folder = folder(&[
        ("b.txt", "\u{feff}second"),
        ("a.md", "first"),
        ("c.jsonl", "{\"text\": \"third\", \"n\": 1}\r\n\n{\"text\": null}\n\"fourth\""),
        ("d.json", "[{\"text\": \"fifth\"},\n {\"text\": \"\"}]"),
        (".hidden.txt", "no"),
        ("image.png", "no"),
        ("sub/deep/f.ndjson", "{\"text\": \"last\"}"),
    ]);
    write_parquet(&folder.path().join("e.parquet"), &[Some(b"sixth"), None, Some(b"seventh")]);
    let expected = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "last"];
    assert_eq!(read(folder.path(), ".", "text").unwrap(), expected);
    let corpus = open(&config(&["*", "b.txt", "**/*.txt"]), folder.path());
    assert!(corpus.is_ok(), "a named file is read as text: {:?}", corpus.err());
    let corpus = open(&config(&["."]), folder.path()).unwrap();
    assert_eq!(texts(&corpus.split(Split::Train)), expected);
    assert!(corpus.split(Split::Train).source(0).ends_with("a.md"));
}

#[test]
fn fields_are_found_by_name_and_by_path() {
    let folder = folder(&[("a.jsonl", "{\"m\": {\"body\": \"in\"}, \"m.x\": \"flat\"}")]);
    assert_eq!(read(folder.path(), "a.jsonl", "m.body").unwrap(), ["in"]);
    assert_eq!(read(folder.path(), "a.jsonl", "m.x").unwrap(), ["flat"]);
    let there = ["there is no field `text`", "`m`, `m.x`", "a.jsonl:1", "data.field"];
    refuses(folder.path(), "a.jsonl", "text", &there);
}

#[test]
fn a_bad_line_is_named() {
    let folder = folder(&[
        ("broken.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"\n"),
        ("number.jsonl", "{\"text\": 3}"),
        ("cut.json", "[{\"text\": \"a\"},\n{\"te"),
    ]);
    write(folder.path(), "bytes.jsonl", b"\"a\"\n\"\xff\"\n");
    refuses(folder.path(), "broken.jsonl", "text", &["not JSON", "broken.jsonl:2"]);
    refuses(folder.path(), "number.jsonl", "text", &["holds a number", "number.jsonl:1"]);
    refuses(folder.path(), "cut.json", "text", &["not JSON", "cut.json:2"]);
    refuses(folder.path(), "bytes.jsonl", "text", &["not UTF-8", "offset 5", "bytes.jsonl:2"]);
}

#[test]
fn bytes_that_are_not_text_are_located() {
    let folder = folder(&[]);
    write(folder.path(), "latin.txt", b"na\xefve");
    write(folder.path(), "wide.txt", b"\xff\xfea\0");
    write(folder.path(), "cut.txt", "é".as_bytes().split_last().unwrap().1);
    refuses(folder.path(), "latin.txt", "text", &["0xef at offset 2", "latin.txt", "LATIN1"]);
    refuses(folder.path(), "wide.txt", "text", &["offset 0", "UTF-16"]);
    refuses(folder.path(), "cut.txt", "text", &["0xc3 at offset 0"]);
    let error = open(&config(&["latin.txt"]), folder.path()).unwrap_err();
    assert!(error.message().contains("not UTF-8"), "{error}");
}

#[test]
fn a_bad_parquet_file_is_named() {
    let folder = folder(&[("not.parquet", "PAR1 but not really")]);
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &[Some(b"good"), None, Some(b"bad \xff")]);
    refuses(folder.path(), "a.parquet", "body", &["no column `body`", "`id`, `text`"]);
    refuses(folder.path(), "a.parquet", "id", &["column `id`", "INT64"]);
    refuses(folder.path(), "a.parquet", "text", &["not UTF-8", "offset 4", "row 3"]);
    refuses(folder.path(), "not.parquet", "text", &["cannot be read", "not.parquet"]);
    let bytes = std::fs::read(&path).unwrap();
    write(folder.path(), "cut.parquet", &bytes[..bytes.len() / 2]);
    refuses(folder.path(), "cut.parquet", "text", &["cannot be read", "completely"]);
}

#[test]
fn no_damage_of_a_parquet_file_ends_the_program() {
    let folder = folder(&[]);
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &[Some(b"a text"), None, Some(b"a text")]);
    let bytes = std::fs::read(&path).unwrap();
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        write(folder.path(), "a.parquet", &damaged);
        if let Err(error) = read(folder.path(), "a.parquet", "text") {
            assert_eq!(error.exit_code(), 1);
        }
    }
}

#[test]
fn nothing_to_read_is_an_error() {
    let folder = folder(&[("empty.txt", ""), ("blank.jsonl", "\n\n"), ("none/a.bin", "")]);
    refuses(folder.path(), "missing.txt", "text", &["no such file", "missing.txt"]);
    refuses(folder.path(), "*.csv", "text", &["matches no file", "*.csv"]);
    refuses(folder.path(), "a[.txt", "text", &["not a glob"]);
    refuses(folder.path(), "none", "text", &["holds no file with text", ".jsonl"]);
    refuses(folder.path(), "*.*", "text", &["no text"]);
    let error = open(&config(&["empty.txt", "blank.jsonl"]), folder.path()).unwrap_err();
    assert!(error.message().contains("corpus is empty"), "{error}");
}
