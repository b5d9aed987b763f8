//! What more examples, longer chains, more text and more repetitions are worth.

pub mod config;
pub(super) mod language;
pub mod law;
pub(super) mod samples;
pub mod study;

pub use config::ScalingRecipe;
pub use study::measure;
