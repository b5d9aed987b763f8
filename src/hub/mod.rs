//! How do published checkpoints come in and go out?

pub mod adapter;
pub mod checkpoint;
pub mod config;
#[cfg(feature = "hub")]
mod download;
pub mod families;
pub mod folder;
pub mod gguf;
pub mod header;
pub mod hf_config;
pub mod looped;
mod mapped;
pub mod remote;
pub mod settings;
pub mod shards;
#[cfg(feature = "hub")]
mod snapshot;
pub mod source;
pub mod weights;

pub use adapter::Family;
pub use checkpoint::Checkpoint;
pub use source::{HubId, Source, Stopped};
