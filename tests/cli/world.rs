//! A small world for the program: text, a recipe for a teacher, a recipe for its student.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

const WORDS: &[&str] = &[
    "state", "union", "people", "nation", "peace", "war", "the", "of", "and", "we", "must", "our",
    "laws", "treasury", "commerce", "year", "last", "new", "great", "citizens",
];

/// What `factorize` did.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }

    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// It failed, and stderr has all of `parts`.
    #[track_caller]
    pub fn refused(&self, parts: &[&str]) {
        self.failed(1, parts);
    }

    /// The command line itself is wrong, and stderr has all of `parts`.
    #[track_caller]
    pub fn misused(&self, parts: &[&str]) {
        self.failed(2, parts);
    }

    #[track_caller]
    fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains("error: "), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not in:\n{}", self.stderr);
        }
    }

    /// It succeeded, and stderr has all of `parts`.
    #[track_caller]
    pub fn noted(self, parts: &[&str]) -> Self {
        let ran = self.good();
        for part in parts {
            assert!(ran.stderr.contains(part), "`{part}` is not in:\n{}", ran.stderr);
        }
        ran
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A folder with text, recipes and a teacher trained from one of them.
pub struct World {
    pub folder: TempDir,
}

impl World {
    /// One for all tests: the teacher is trained once.
    pub fn shared() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let world = Self::new();
            world.run(&["pretrain", "teacher.toml", "--quiet"]).good();
            world
        })
    }

    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut text = String::new();
        for _ in 0..60 {
            let words: Vec<&str> =
                (0..80).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect();
            writeln!(text, "{}", serde_json::json!({ "text": words.join(" ") })).unwrap();
        }
        world.write("text.jsonl", &text);
        world.write("held-out.txt", "we must keep the peace of our great nation ".repeat(9).trim());
        world.write("teacher.toml", TEACHER);
        world.write("student.toml", STUDENT);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = factorize(self.folder.path());
        command.args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Distils the teacher into the run folder `out`.
    pub fn distill(&self, out: &str, more: &[&str]) -> Ran {
        let mut arguments = vec!["--teacher", "runs/teacher", "student.toml", "--out", out];
        arguments.extend(more);
        self.run(&arguments)
    }
}

/// The program in a folder, as plain as scripts run it.
pub fn factorize(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_factorize"));
    command
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("RAYON_NUM_THREADS", "1")
        .env_remove("NO_COLOR");
    command
}

const TEACHER: &str = r#"
name = "teacher"
[model]
layers = 6
width = 32
heads = 2
[tokenizer]
kind = "bpe"
vocabulary = 300
[data]
files = ["text.jsonl"]
window_tokens = 32
test = 0.2
validation = 0.1
[train]
steps = 30
batch_rows = 4
optimizer = { lr = 5e-3 }
[eval]
window_tokens = 32
max_tokens = 400
bootstrap_samples = 20
[generate]
prompts = ["we must"]
max_tokens = 5
"#;

const STUDENT: &str = r#"
seed = 7
[student]
prelude_layers = 1
core_layers = 1
repetitions = 2
coda_layers = 1
relaxation = { kind = "lora", rank = 2 }
calibration_tokens = 256
[data]
files = ["text.jsonl"]
window_tokens = 32
test = 0.2
validation = 0.1
[depth]
law = { kind = "uniform", least = 1, most = 3 }
[train]
steps = 6
batch_rows = 2
checkpoint_every_steps = 2
keep_checkpoints = 9
validate_every_steps = 3
[eval]
window_tokens = 32
max_tokens = 200
bootstrap_samples = 20
[generate]
prompts = ["we must"]
max_tokens = 5
"#;
