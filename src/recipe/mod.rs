//! Recipes: experiments as TOML files.
//!
//! Every key has a default, unknown keys are refused, and what `--set` changes is part of the
//! recipe. With `[model]` it trains a model from nothing; without, it distils a teacher.

mod expected;
mod files;
mod keys;
mod kind;
mod plan;
mod read;
mod sections;
mod set;
mod shape;
pub mod shipped;
mod smoke;

pub use files::{absolute_path, relative_path, resolve_path};
pub use keys::schema_of;
pub use kind::verb_of;
pub use plan::{DistillPlan, PretrainPlan, Settings};
pub use read::{Source, read_as};
pub use sections::{Recipe, SamplesConfig, TeacherConfig};
pub use shape::shape_of_student;
