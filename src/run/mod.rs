//! Runs: recipes, carried out.
//!
//! The one place where the parts are wired: teacher, text, student, training, evaluation, export.
//! Everything a run makes is in its folder: `recipe.toml` (with every default filled in),
//! `metrics.jsonl`, `tensorboard/`, `checkpoints/`, `eval.json`, and `student/` or `model/`.

mod distill;
mod fit;
mod folder;
mod halting;
mod load;
mod measure;
mod options;
mod pretrain;
mod provenance;
mod report;
mod student;
mod teacher;
mod text;
mod windows;

pub use distill::distill;
pub use folder::{Existing, finished};
pub use halting::{HALTING_FILE, halting_file, read_halting, write_halting};
pub use load::{Loaded, Model, device};
pub use measure::{continuations, text_bytes};
pub use options::Options;
pub use pretrain::pretrain;
pub use provenance::{Provenance, machine};
pub use report::{Report, Sample, Training};
pub use student::Student;
pub use teacher::Teacher;
pub use text::held_out;
pub use windows::{BeyondContext, Windows, check_windows};
