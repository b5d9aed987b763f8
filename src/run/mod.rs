//! How is a recipe carried out?
//!
//! The one place where the parts are wired: teacher, text, student, training, evaluation, export.
//! Everything a run makes is in its folder: `recipe.toml` (every default filled in),
//! `metrics.jsonl`, `tensorboard/`, `checkpoints/`, `eval.json`, and `student/` or `model/`.

mod distill;
mod folder;
mod halting;
mod load;
mod measure;
mod pretrain;
mod report;
mod student;
mod text;

pub use distill::distill;
pub use folder::{Existing, finished};
pub use halting::{HALTING_FILE, halting_file, read_halting, write_halting};
pub use load::{Loaded, Model, device};
pub use measure::{continuations, evaluate};
pub use pretrain::pretrain;
pub use report::{Report, Sample, Training};

use std::path::PathBuf;

use candle_core::Device;

use crate::error::{Error, Kind, Result};
use crate::observe::Observer;
use crate::train::Interrupt;

/// Where and how a recipe is carried out.
#[derive(Clone)]
pub struct Options<'a> {
    /// The run folder.
    pub out: PathBuf,
    /// What to do about a run that is already there.
    pub existing: Existing,
    /// Where tokenised text and what teachers say is kept.
    pub cache: PathBuf,
    /// Most bytes that kept teachers take together.
    pub cache_limit_bytes: u64,
    /// Where the arithmetic happens.
    pub device: Device,
    /// Asked now and then whether to stop.
    pub interrupt: Interrupt,
    /// Told how far it has come.
    pub observer: &'a dyn Observer,
}

impl Options<'_> {
    /// Ends a run between two of its parts when the user asked for it.
    fn go_on(&self, before: &str) -> Result<()> {
        if self.interrupt.is_set() {
            return Err(goes_on(Error::interrupted(format!("stopped before {before}"))));
        }
        Ok(())
    }
}

/// Wherever a run is stopped, what it made until then is used again.
fn goes_on(error: Error) -> Error {
    if error.kind() == Kind::Interrupted {
        return error.hint("go on with the same command and --resume");
    }
    error
}
