//! The on-disk cache of tokenised text: one token file and one index for each corpus.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::mapped::{Tokens, Width};
use crate::context::Context;
use crate::disk::map_cached;
use crate::error::{Error, Result};

/// The first bytes of a token file.
const MAGIC: [u8; 16] = *b"factorexe tokens";
/// The first line of an index, before its checksum; the number is the version of both files.
const INDEX_MAGIC: &str = "factorexe index 1";

/// Polling interval of a process that waits for another one to finish.
const LOCK_ASKED_EVERY: Duration = Duration::from_millis(100);

/// Where the documents lie in the token file, a column each.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Index {
    /// Tokens up to the end of each document.
    pub(super) ends: Vec<usize>,
    /// The file of each document, by its place in the corpus.
    pub(super) files: Vec<u32>,
    /// The first 64 bits of the blake3 hash of each document's text.
    pub(super) hashes: Vec<u64>,
    /// Documents that had no token and were left out.
    pub(super) empty: usize,
    /// Bytes of a token.
    token_bytes: usize,
    /// blake3 of the token file.
    tokens_hash: String,
}

/// A tokenised corpus on disk.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) tokens: Tokens,
    pub(super) index: Index,
}

/// The two files of one corpus, and the lock of who writes them.
struct Place<'a> {
    folder: &'a Path,
    key: &'a str,
}

impl Place<'_> {
    fn path(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.key))
    }
}

/// The corpus stored under `key`, made by `build` when it is not there or damaged. Of two
/// processes at once, one builds and the other waits for it.
pub(super) fn open_or_build(
    key: &str,
    width: Width,
    context: &Context,
    build: impl FnOnce(&mut Writer) -> Result<()>,
) -> Result<Cached> {
    let folder = context.cache();
    let place = Place { folder, key };
    fs::create_dir_all(folder).map_err(|error| Error::io("making", folder, &error))?;
    if let Ok(cached) = load(&place, width) {
        return Ok(cached);
    }
    let _lock = lock(&place, context)?;
    // Another process may have been faster.
    match load(&place, width) {
        Ok(cached) => return Ok(cached),
        Err(None) => {}
        Err(Some(damage)) => context.warn(&format!(
            "the token cache is damaged and is made again: {damage} ({})",
            place.path("tokens").display()
        )),
    }
    let mut writer = Writer::new(&place, width)?;
    build(&mut writer)?;
    writer.finish(&place)?;
    load(&place, width).map_err(|damage| {
        Error::input(format!(
            "the token cache was written but does not read back: {}",
            damage.unwrap_or_else(|| "it is gone".to_owned())
        ))
        .at(folder.display())
        .hint("is the disk failing, or does something empty that folder?")
    })
}

/// Held until dropped, also by a process that is killed.
fn lock(place: &Place, context: &Context) -> Result<Option<File>> {
    let path = place.path("lock");
    let file = File::create(&path).map_err(|error| Error::io("making", &path, &error))?;
    let mut noted = false;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(fs::TryLockError::WouldBlock) => {}
            // A file system without locks: both build, and renaming keeps each result complete.
            Err(fs::TryLockError::Error(_)) => return Ok(None),
        }
        if !noted {
            context.note("another process tokenises the same text: waiting for it");
            noted = true;
        }
        context.check_cancelled("while another process tokenised the text")?;
        std::thread::sleep(LOCK_ASKED_EVERY);
    }
    remove_abandoned(place);
    Ok(Some(file))
}

/// Half-written files of killed processes; only the holder of the lock may judge them so.
fn remove_abandoned(place: &Place) {
    for entry in fs::read_dir(place.folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(place.key) && name.ends_with(".part") {
            // What cannot be removed takes room, no more.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// An error of `None`: nothing is stored; of `Some`: why it cannot be used.
fn load(place: &Place, width: Width) -> std::result::Result<Cached, Option<String>> {
    let (index_path, tokens_path) = (place.path("index"), place.path("tokens"));
    if !index_path.exists() && !tokens_path.exists() {
        return Err(None);
    }
    read(&index_path, &tokens_path, width).map_err(Some)
}

fn read(index: &Path, tokens: &Path, width: Width) -> std::result::Result<Cached, String> {
    let text = fs::read_to_string(index).map_err(|error| format!("no index: {error}"))?;
    let mut lines = text.lines();
    let (head, body) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if head != index_head(body) {
        return Err("the checksum of the index is wrong".to_owned());
    }
    let index: Index = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let file = File::open(tokens).map_err(|error| format!("no tokens: {error}"))?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let expected = MAGIC.len() + index.ends.last().unwrap_or(&0) * width.bytes();
    if index.token_bytes != width.bytes() || length != expected as u64 {
        return Err(format!("the token file is {length} bytes, expected {expected}"));
    }
    let documents = index.ends.len();
    if index.files.len() != documents
        || index.hashes.len() != documents
        || !index.ends.is_sorted_by(|a, b| a < b)
    {
        return Err("the columns of the index disagree".to_owned());
    }
    let bytes = map_cached(&file).map_err(|error| error.to_string())?;
    if !bytes.starts_with(&MAGIC) {
        return Err("the token file begins with something else".to_owned());
    }
    if blake3::hash(&bytes).to_hex().as_str() != index.tokens_hash {
        return Err("the checksum of the tokens is wrong".to_owned());
    }
    Ok(Cached { tokens: Tokens::Mapped { bytes, offset: MAGIC.len(), width }, index })
}

fn index_head(body: &str) -> String {
    format!("{INDEX_MAGIC} {}", blake3::hash(body.as_bytes()).to_hex())
}

/// blake3 of a file's bytes; `read_bytes` receives the bytes read each time and may end it.
pub(super) fn hash_file(
    path: &Path,
    read_bytes: &dyn Fn(u64) -> Result<()>,
) -> Result<blake3::Hash> {
    let failed = |error: std::io::Error| Error::io("reading", path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&buffer[..length]);
        read_bytes(length as u64)?;
    }
}

/// A corpus being stored.
pub(super) struct Writer {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    hasher: blake3::Hasher,
    width: Width,
    tokens: usize,
    index: Index,
}

impl Writer {
    fn new(place: &Place, width: Width) -> Result<Self> {
        let path = place.path("tokens");
        let file = temporary(place)?;
        let index = Index { token_bytes: width.bytes(), ..Index::default() };
        let file = BufWriter::with_capacity(1 << 20, file);
        let hasher = blake3::Hasher::new();
        let mut writer = Self { file, path, hasher, width, tokens: 0, index };
        writer.write(&MAGIC)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|error| Error::io("writing", &self.path, &error))
    }

    /// How many tokens were stored.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Appends tokens to the document that is being stored; each fits the width.
    pub(super) fn push(&mut self, tokens: &[u32]) -> Result<()> {
        self.tokens += tokens.len();
        let bytes: Vec<u8> = match self.width {
            Width::Two => tokens.iter().flat_map(|token| (*token as u16).to_le_bytes()).collect(),
            Width::Four => tokens.iter().flat_map(|token| token.to_le_bytes()).collect(),
        };
        self.write(&bytes)
    }

    /// Ends the document that is being stored.
    pub(super) fn end_document(&mut self, file: u32, hash: u64) {
        if self.tokens == self.index.ends.last().copied().unwrap_or(0) {
            self.index.empty += 1;
            return;
        }
        self.index.ends.push(self.tokens);
        self.index.files.push(file);
        self.index.hashes.push(hash);
    }

    fn finish(mut self, place: &Place) -> Result<()> {
        self.index.tokens_hash = self.hasher.finalize().to_hex().to_string();
        let body = serde_json::to_string(&self.index)
            .map_err(|error| Error::internal(format!("an index is plain data: {error}")))?;
        // The tokens first: an index never speaks of tokens that are not there.
        publish(self.file, &self.path)?;
        let path = place.path("index");
        let mut file = BufWriter::new(temporary(place)?);
        writeln!(file, "{}\n{body}", index_head(&body))
            .map_err(|error| Error::io("writing", &path, &error))?;
        publish(file, &path)
    }
}

fn temporary(place: &Place) -> Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(&format!("{}.", place.key))
        .suffix(".part")
        .tempfile_in(place.folder)
        .map_err(|error| Error::io("making a file", place.folder, &error))
}

/// Everything on the disk, then the name: a reader sees the complete file or none.
fn publish(file: BufWriter<NamedTempFile>, path: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("writing", path, &error);
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
