//! Which laws does a factored computation keep?
//!
//! A study is a grid of points, each a piece of work of its own, carried out by processes side by
//! side and written down whole or not at all. Laws are fitted to what the points gave.

pub mod about;
mod claim;
pub mod config;
pub mod exit_steps;
pub mod exits;
pub mod exits_config;
mod findings;
pub mod fitted;
mod grid;
pub mod job;
mod language;
pub mod law;
mod learner;
mod mixed;
mod needed;
mod processes;
pub mod scaling;
pub mod scaling_config;
mod scoring;
mod student;
pub mod sweep;
mod task_laws;
mod teacher;
mod textual;
mod work;

pub use claim::open;
pub use config::{LawRecipe, Target};
pub use exits_config::ExitsRecipe;
pub use findings::{Findings, refresh};
pub use grid::{TextTeacher, law_jobs};
pub use job::{Job, Outcome};
pub use needed::{Bracket, Cell, Curve, Needed, curves, needed};
pub use processes::{Starter, carry_out_all};
pub use scaling_config::ScalingRecipe;
pub use sweep::{Done, Failure, Point, StudyKind, Sweep};
pub use work::carry_out;
