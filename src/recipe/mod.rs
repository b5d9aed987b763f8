//! Recipes: experiments, as TOML files.
//!
//! A recipe is a TOML file. Every key has a default, unknown keys are refused, and what `--set` changes is
//! part of it. With `[model]` it trains a model from nothing; without, it distils a teacher.

mod files;
mod keys;
mod plan;
mod read;
mod sections;
mod set;
mod smoke;

pub use files::resolve_path;
pub use keys::schema;
pub use plan::{DistillPlan, PretrainPlan, Settings};
pub use read::{Source, read_as};
pub use sections::{Recipe, SamplesConfig, TeacherConfig};
