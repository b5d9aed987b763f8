//! The points of a study: what each is, who carries it out, and what was found.

pub mod job;
mod lock;
mod points;
mod processes;
pub mod provenance;
pub(super) mod work;

pub use job::{Job, Outcome};
pub use lock::open;
pub use points::{Done, Failure, Point, StudyKind, Sweep, find, finish};
pub use processes::{Starter, carry_out_all};
