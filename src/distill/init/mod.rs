//! Where a student starts: which layers of its teacher, in which tensors, and how wide.

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
