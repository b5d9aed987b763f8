//! When tokens stop, in blocks that learned chains of many lengths.

pub mod config;
pub(super) mod point;
pub mod stops;
pub mod study;

pub use config::ExitsRecipe;
pub use study::measure;
