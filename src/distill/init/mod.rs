//! Initialization of a student from its teacher: its layers, its tensors and its width.

mod gram;
pub mod params;
pub mod project_width;
pub mod split;
mod state_rms;
mod svd;
pub mod tensors;

pub use params::student_params;
pub use project_width::{MAP, ReducedWidth, project_width, reduced_width_config};
pub use tensors::student_tensors;
