//! How many repetitions a factored computation needs, task by task.

pub mod config;
mod grid;
mod needed;
mod per_task;
pub(super) mod student;
pub mod study;
pub(super) mod teacher;
pub(super) mod text;

pub use config::{LawRecipe, Target};
pub use grid::{TextTeacher, law_jobs};
pub use needed::{Bracket, Cell, Curve, Needed, curves, needed};
pub use study::measure;
