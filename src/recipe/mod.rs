//! What experiment was asked for?
//!
//! A recipe is a TOML file. Every key has a default, no key is unknown, and what `--set` says is
//! part of it. With `[model]` it trains a model from nothing; without, it distils a teacher.

mod files;
mod keys;
mod read;
mod sections;
mod set;
mod smoke;

pub use files::resolve_path;
pub use keys::schema;
pub use read::{Source, read_as};
pub use sections::{Recipe, SamplesConfig, TeacherConfig};
