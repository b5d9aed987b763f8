//! Studies: many trainings over a grid, and the laws they follow.
//!
//! A study is a grid of points, each a piece of work of its own, carried out by processes side by
//! side and written down whole or not at all. Laws are fitted to what the points gave.

mod carry_out;
mod findings;
mod format;
pub mod halting;
pub mod law;
mod refresh;
pub mod scaling;
mod scoring;
pub mod sweep;

pub use carry_out::carry_out;
pub use findings::Findings;
pub use halting::ExitsRecipe;
pub use law::{
    Bracket, Cell, Curve, LawRecipe, Needed, Target, TextTeacher, curves, law_jobs, needed,
};
pub use refresh::{refresh, refuse_empty};
pub use scaling::ScalingRecipe;
pub use sweep::{
    Done, Failure, Job, Outcome, Point, Starter, StudyKind, Sweep, carry_out_all, open,
};
