//! The whole job of `recipes/tiny.toml`, shrunk to seconds, in folders of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::world::{Ran, factorize};

const STEPS: usize = 12;

/// What must not depend on what happened to a run on its way.
#[derive(Debug, PartialEq)]
pub struct Made {
    /// The files of the exported student; its card tells times.
    student: BTreeMap<String, blake3::Hash>,
    /// `eval.json` without times and memory.
    scores: Value,
    /// Names in the run folder.
    names: Vec<String>,
    /// The steps that `metrics.jsonl` tells of.
    steps: Vec<u64>,
}

pub struct Job {
    pub folder: TempDir,
    text: &'static str,
}

impl Job {
    /// Of one of the files in `recipes/text`.
    pub fn on(text: &'static str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), text }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The words of the job in the run folder `out`, with a cache of its own.
    fn words(&self, out: &str, more: &[&str]) -> Vec<String> {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let text = recipes.join("text").join(self.text);
        let mut words = vec![recipes.join("tiny.toml").display().to_string(), "--smoke".into()];
        let set = [
            format!("data.files=[{:?}]", text.display().to_string()),
            "data.validation=0.1".into(),
            "data.test=0.2".into(),
            format!("train.steps={STEPS}"),
            "train.checkpoint_every_steps=1".into(),
        ];
        words.extend(set.into_iter().flat_map(|set| ["--set".into(), set]));
        let cache = self.path(&format!("{out}.cache")).display().to_string();
        words.extend(["--out".into(), out.into(), "--cache".into(), cache]);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    pub fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = factorize(self.folder.path());
        command.args(self.words(out, more));
        command
    }

    pub fn run(&self, out: &str, more: &[&str]) -> Ran {
        self.command(out, more).output().unwrap().into()
    }

    /// The job where no file may have more than so many blocks of 512 bytes.
    #[cfg(unix)]
    pub fn run_limited(&self, blocks: u64, out: &str, more: &[&str]) -> Ran {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command
            .current_dir(self.folder.path())
            .env("RAYON_NUM_THREADS", "1")
            .args(["-c", &script, env!("CARGO_BIN_EXE_factorize")])
            .args(self.words(out, more));
        command.output().unwrap().into()
    }

    /// What a run came to, once it ended.
    pub fn made(&self, out: &str) -> Made {
        self.assert_nothing_half_written(out);
        let run = self.path(out);
        let student = files(&run.join("student")).into_iter().filter(|name| name != "README.md");
        let hash = |name: String| {
            let bytes = fs::read(run.join("student").join(&name)).unwrap();
            (name, blake3::hash(&bytes))
        };
        let eval = fs::read(run.join("eval.json")).unwrap();
        let mut scores: Value = serde_json::from_slice(&eval).unwrap();
        forget_times(&mut scores);
        let metrics = factorexe::train::read_steps(&run.join("metrics.jsonl")).unwrap();
        Made {
            student: student.map(hash).collect(),
            scores,
            names: files(&run),
            steps: metrics.iter().map(|metrics| metrics.step).collect(),
        }
    }

    /// How far a run came, by what is in its folder.
    pub fn stands(&self, out: &str) -> String {
        let run = self.path(out);
        let inside = |name: &str| {
            let folder = run.join(name);
            if folder.exists() { files(&folder) } else { Vec::new() }
        };
        format!("{:?}, {:?}", inside(""), inside("checkpoints"))
    }

    /// No file or folder under a hidden name, neither of the run nor of the cache.
    pub fn assert_nothing_half_written(&self, out: &str) {
        for folder in [out.to_owned(), format!("{out}.cache")] {
            let folder = self.path(&folder);
            let inside = ["", "student", "checkpoints"].map(|name| folder.join(name));
            for name in inside.iter().filter(|folder| folder.exists()).flat_map(|f| files(f)) {
                let half = name.starts_with('.') || name.ends_with(".part");
                assert!(!half, "`{name}` is left in {}", folder.display());
            }
        }
    }

    /// Makes room.
    pub fn forget(&self, out: &str) {
        for folder in [out.to_owned(), format!("{out}.cache")] {
            fs::remove_dir_all(self.path(&folder)).unwrap();
        }
    }
}

/// The names in a folder.
pub fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for time in ["seconds", "tokens_per_s", "peak_rss_mib", "provenance"] {
                object.remove(time);
            }
            object.values_mut().for_each(forget_times);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_times),
        _ => {}
    }
}
