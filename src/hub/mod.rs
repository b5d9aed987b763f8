//! Checkpoints in (folders, Hub, GGUF) and out (factorized, unrolled).

pub mod about;
pub mod adapter;
pub mod card;
pub mod checkpoint;
pub mod client;
pub mod config;
mod cut;
#[cfg(feature = "hub")]
mod download;
pub mod export;
pub mod families;
pub mod folder;
pub mod gguf;
pub mod header;
pub mod hf_config;
pub mod id;
mod load;
pub mod looped;
pub mod remote;
pub mod settings;
pub mod shards;
#[cfg(feature = "hub")]
mod snapshot;
pub mod source;
pub mod store;
pub mod weights;

pub use about::About;
pub use adapter::Family;
pub use card::{Card, Kept};
pub use checkpoint::{Checkpoint, Storage};
pub use export::{export_stack, export_student, export_unrolled};
pub use id::HubId;
pub use source::Source;
pub use store::StoredType;
