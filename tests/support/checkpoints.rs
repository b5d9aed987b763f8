//! How is a good checkpoint made a bad one?

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use factorexe::Error;
use factorexe::context::{Context, Observer};
use factorexe::error::Kind;
use factorexe::hub::{Checkpoint, Source};
use serde_json::Value;
use tempfile::TempDir;

/// The folder of a fixture that `scripts/make_fixtures.py` made.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The names of all fixtures.
pub fn fixtures() -> Vec<String> {
    let entries = fs::read_dir(fixture("")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("reference.safetensors").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

/// A copy of a fixture that a test may damage.
pub struct Copy {
    folder: TempDir,
}

impl Copy {
    pub fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixture(name)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Changes a JSON file.
    pub fn edit(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let path = self.file(file);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(path, value.to_string()).unwrap();
    }

    pub fn set(&self, key: &str, value: Value) -> &Self {
        self.edit("config.json", |config| config[key] = value);
        self
    }

    /// Changes the header of a safetensors file and leaves its data.
    pub fn edit_header(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let path = self.file(file);
        let bytes = fs::read(&path).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header = serde_json::from_slice(&bytes[8..end]).unwrap();
        change(&mut header);
        let header = header.to_string();
        let length = (header.len() as u64).to_le_bytes();
        fs::write(path, [&length, header.as_bytes(), &bytes[end..]].concat()).unwrap();
    }

    /// Overwrites one stored number of a tensor of `model.safetensors`.
    pub fn poke(&self, tensor: &str, index: usize, number: f32) {
        let path = self.file("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
        let start = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
        let at = end + start + 4 * index;
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        fs::write(path, bytes).unwrap();
    }

    pub fn load(&self) -> factorexe::Result<Checkpoint> {
        Source::Folder(self.path().to_owned()).load(&Context::cpu())
    }

    /// The message of the refusal, with place and hint.
    pub fn refused(&self) -> String {
        input(&self.load().unwrap_err())
    }
}

/// The text of an error that must be the user's to mend, and must say how.
pub fn input(error: &Error) -> String {
    assert_eq!(error.kind(), Kind::Input, "{error}");
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    assert!(text.contains("hint: "), "{text}");
    text
}

/// Asserts that a text has all these parts.
pub fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// Keeps the warnings.
#[derive(Clone, Default)]
pub struct Warnings(pub Arc<Mutex<Vec<String>>>);

impl Observer for Warnings {
    fn begin(&self, _task: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _done: u64, _message: &str) {}
    fn end(&self) {}
    fn note(&self, _message: &str) {}
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}
