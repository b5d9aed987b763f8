//! Laws fitted to measurements. Plain numbers, no tensors.

mod censored;
pub mod chain;
mod comparison;
mod estimate;
pub mod horizon;
pub mod joint;
pub mod law;
mod minimum;
mod needed;
mod nonnegative;
mod normal;
mod profile;
mod rank;
mod run;
pub mod saturating;
mod span;
mod surface;
pub mod table;

pub use censored::{Form, SMALLEST_SIGMA};
pub use comparison::{Comparison, FormFit};
pub use estimate::{Estimate, Resampling};
pub use needed::Needed;
pub use profile::{Profile, ProfilePoint};
pub use rank::rank_correlation;
pub use run::{FitKind, FitReport, run};
pub use surface::Run;
