//! What the data room promises: splits, cache, windows, and clear words about bad files.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod cache;
mod files;
mod splits;
mod windows;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use factorexe::Result;
use factorexe::context::{Context, Observer};
use factorexe::data::{Corpus, DataConfig, Documents, Encode, SplitConfig};
use tempfile::TempDir;

/// The end-of-text token of [`Bytes`].
const END: u32 = 256;

/// A tokenizer whose tokens are bytes, and that counts how often it is asked.
#[derive(Default)]
struct Bytes {
    calls: AtomicUsize,
}

impl Bytes {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Encode for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(text.bytes().map(u32::from).collect())
    }
    fn fingerprint(&self) -> String {
        "bytes".to_owned()
    }
    fn vocabulary(&self) -> usize {
        257
    }
    fn document_end(&self) -> Option<u32> {
        Some(END)
    }
}

/// Keeps warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Observer for Warnings {
    fn begin(&self, _task: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _done: u64, _message: &str) {}
    fn end(&self) {}
    fn note(&self, _message: &str) {}
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

/// A folder with these files in it.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        write(folder.path(), name, text.as_bytes());
    }
    folder
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// All of `files`, nothing held out.
fn config(files: &[&str]) -> DataConfig {
    DataConfig {
        files: strings(files),
        validation: SplitConfig::Fraction(0.0),
        test: SplitConfig::Fraction(0.0),
        ..DataConfig::default()
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A context that caches in `.cache` of `folder`.
fn caching(folder: &Path) -> Context {
    Context::cpu().with_cache(folder.join(".cache"))
}

fn open(config: &DataConfig, folder: &Path) -> Result<Corpus> {
    Corpus::open(config, folder, &Bytes::default(), &caching(folder))
}

/// The texts of documents whose tokens are bytes.
fn texts(documents: &Documents) -> Vec<String> {
    let text = |index| documents.document(index).into_iter().map(|token| token as u8).collect();
    (0..documents.len()).map(|index| String::from_utf8(text(index)).unwrap()).collect()
}
