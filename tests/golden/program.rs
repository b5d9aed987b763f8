//! Trainings of a few steps by the program itself, and the numbers they leave behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::STEPS;
use super::compare::{Step, Trajectory};

/// What every training of text is made of: few steps, small windows, hardly any evaluation.
const SMALL: &[&str] = &[
    "data.window_tokens=32",
    "train.batch_rows=2",
    "train.checkpoint_every_steps=0",
    "train.validate_every_steps=0",
    "eval.window_tokens=32",
    "eval.max_tokens=32",
    "eval.repetitions=[1]",
    "eval.bootstrap_samples=0",
    "generate.prompts=[]",
];

/// A place to train in, with one cache of tokens for all trainings.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// The folder a training of this name writes into.
    pub fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Trains by a recipe of one run, with changes to its keys.
    pub fn train(&self, name: &str, verb: &str, recipe: &Path, set: &[&str]) -> Trajectory {
        let out = self.out(name);
        let steps = format!("train.steps={STEPS}");
        let mut command = self.factorize(recipe.parent().unwrap());
        command.args([verb, recipe.file_name().unwrap().to_str().unwrap(), "--quiet", "--out"]);
        command.arg(&out);
        for set in SMALL.iter().chain([&steps.as_str()]).chain(set) {
            command.args(["--set", set]);
        }
        run(command, name);
        let trajectory = Trajectory { name: name.to_owned(), steps: steps_of(&out) };
        fs::remove_dir_all(out).unwrap();
        trajectory
    }

    /// Carries out a study in the folder of `recipe`, with `text` in place of that recipe. A
    /// point is named by a hash of its job, so trajectories are sorted by their numbers.
    pub fn study(&self, name: &str, verb: &str, recipe: &Path, text: &str) -> Vec<Trajectory> {
        let out = self.out(name);
        let file = self.out(&format!("{name}.toml"));
        fs::write(&file, text).unwrap();
        let mut command = self.factorize(recipe.parent().unwrap());
        command.arg(verb).arg(&file).args(["--quiet", "--processes", "1", "--out"]).arg(&out);
        run(command, name);
        let mut found: Vec<_> = metrics_under(&out).iter().map(|path| read(path)).collect();
        found.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let named = found.into_iter().enumerate();
        named.map(|(at, steps)| Trajectory { name: format!("{name}/{at}"), steps }).collect()
    }

    fn factorize(&self, folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_factorize"));
        command
            .current_dir(folder)
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .env("RAYON_NUM_THREADS", "1");
        command
    }
}

/// A shipped recipe, in whatever folder of `recipes/` it is.
pub fn recipe(name: &str) -> PathBuf {
    let file = format!("{name}.toml");
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")];
    while let Some(folder) = folders.pop() {
        if folder.join(&file).exists() {
            return folder.join(&file);
        }
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(entries.filter(|path| path.is_dir()));
    }
    panic!("no recipe `{file}`");
}

fn run(mut command: Command, name: &str) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
}

fn steps_of(run: &Path) -> Vec<Step> {
    let steps = read(&run.join("metrics.jsonl"));
    assert_eq!(steps.len() as u64, STEPS, "{}", run.display());
    steps
}

/// Every `metrics.jsonl` below a folder.
fn metrics_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.ends_with("metrics.jsonl") {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> Vec<Step> {
    let text = fs::read_to_string(path).unwrap();
    let step = |line| Step { loss: number(line, "loss"), grad_norm: number(line, "grad_norm") };
    text.lines().map(step).collect()
}

/// The number of a key that stands before any nested one, to the last bit: serde_json may round.
fn number(line: &str, key: &str) -> f64 {
    let (_, rest) = line.split_once(&format!("\"{key}\":")).unwrap();
    let end = rest.find([',', '}']).unwrap();
    rest[..end].parse().unwrap_or_else(|_| panic!("`{key}` is no number: {line}"))
}
