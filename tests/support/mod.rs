//! What do several tests need?

pub mod checkpoints;
#[cfg(feature = "hub")]
pub mod stand_in;
