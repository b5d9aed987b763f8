//! Initialization of a student from its teacher: its layers, its tensors and its width.

mod gram;
mod params;
pub(super) mod project_width;
mod split;
mod state_rms;
mod svd;
mod tensors;

pub use params::{Frozen, initial_params, student_params};
pub use project_width::{MAP, ReducedWidth, project_width, reduced_width_config};
pub use split::{angular_distances, find_split, knees};
pub use tensors::student_tensors;
