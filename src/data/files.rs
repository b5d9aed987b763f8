//! Resolution of paths, folders and globs into the files of a corpus.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::near;
use crate::error::{Error, Result};

/// How the documents of a file are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// The file is one document.
    Text,
    /// A JSON object on every line.
    JsonLines,
    /// JSON values, an array counting as its elements.
    Json,
    /// A column of strings.
    Parquet,
}

const EXTENSIONS: [(&str, Format); 7] = [
    ("txt", Format::Text),
    ("text", Format::Text),
    ("md", Format::Text),
    ("jsonl", Format::JsonLines),
    ("ndjson", Format::JsonLines),
    ("json", Format::Json),
    ("parquet", Format::Parquet),
];

/// A file with text in it.
#[derive(Debug, Clone)]
pub(super) struct SourceFile {
    /// Where it is, as the user would write it.
    pub(super) path: PathBuf,
    /// Where it really is: two names of one file are one file.
    pub(super) identity: PathBuf,
    /// How it is read.
    pub(super) format: Format,
    /// Its size in bytes.
    pub(super) bytes: u64,
}

impl SourceFile {
    fn new(path: PathBuf, format: Format) -> Result<Self> {
        let metadata = fs::metadata(&path).map_err(|error| Error::io("reading", &path, &error))?;
        let identity =
            fs::canonicalize(&path).map_err(|error| Error::io("reading", &path, &error))?;
        Ok(Self { path, identity, format, bytes: metadata.len() })
    }
}

/// The files of `patterns`, each once, in the order of the patterns; the files of one pattern
/// are sorted. Relative patterns start at `base`.
pub(super) fn resolve(patterns: &[String], base: &Path) -> Result<Vec<SourceFile>> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for pattern in patterns {
        for file in matches(pattern, base)? {
            if seen.insert(file.identity.clone()) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn matches(pattern: &str, base: &Path) -> Result<Vec<SourceFile>> {
    let path = base.join(pattern);
    // A path that exists wins over a glob: names may hold brackets.
    if path.exists() {
        return named(path);
    }
    if !pattern.contains(['*', '?', '[']) {
        let error = Error::input("there is no such file or folder").at(path.display());
        return Err(match near(&path) {
            Some(near) => error.hint(format!("did you mean {}?", near.display())),
            None => error.hint(
                "relative paths start at the current directory, or at the folder of the recipe",
            ),
        });
    }
    let mut files = Vec::new();
    for path in glob_paths(pattern, base)? {
        files.extend(if path.is_dir() { walk(&path)? } else { named(path)? });
    }
    if files.is_empty() {
        return Err(Error::input("this pattern matches no file with text").at(path.display()));
    }
    Ok(files)
}

fn glob_paths(pattern: &str, base: &Path) -> Result<Vec<PathBuf>> {
    let full = if Path::new(pattern).is_absolute() {
        pattern.to_owned()
    } else {
        let base = base.to_str().ok_or_else(|| {
            Error::input("a glob needs a folder whose name is UTF-8").at(base.display())
        })?;
        let base = if base.is_empty() { "." } else { base };
        format!("{}/{pattern}", glob::Pattern::escape(base))
    };
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let paths = glob::glob_with(&full, options).map_err(|error| {
        Error::input(format!("this is not a glob: {}", error.msg)).at(pattern.to_owned())
    })?;
    let mut paths = paths
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| Error::io("listing", error.path(), error.error()))?;
    paths.sort();
    Ok(paths)
}

/// A path the user wrote: a folder is searched, a file is read whatever its extension.
fn named(path: PathBuf) -> Result<Vec<SourceFile>> {
    if !path.is_dir() {
        let format = format_of(&path).unwrap_or(Format::Text);
        return Ok(vec![SourceFile::new(path, format)?]);
    }
    let files = walk(&path)?;
    if files.is_empty() {
        let known = EXTENSIONS.map(|(extension, _)| format!(".{extension}")).join(" ");
        return Err(Error::input(format!("this folder holds no file with text ({known})"))
            .at(path.display())
            .hint("name a file itself to read it as text whatever its extension"));
    }
    Ok(files)
}

/// Files of known extension below `folder`, sorted; hidden ones are left out.
fn walk(folder: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut visited = BTreeSet::new();
    // The last is taken first, so folders are pushed in reverse order.
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let real =
                fs::canonicalize(&path).map_err(|error| Error::io("listing", &path, &error))?;
            // A link may lead back up.
            if visited.insert(real) {
                waiting.extend(entries(&path)?.into_iter().rev());
            }
        } else if let Some(format) = format_of(&path) {
            files.push(SourceFile::new(path, format)?);
        }
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::io("listing", folder, &error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn format_of(path: &Path) -> Option<Format> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    EXTENSIONS.iter().find(|(known, _)| *known == extension).map(|(_, format)| *format)
}
