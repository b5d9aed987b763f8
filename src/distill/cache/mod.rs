//! Cache of teacher outputs on disk.
//!
//! Each teacher has a folder `<cache>/teacher/<key>/` of files `shard-*.safetensors` that are
//! written once: rows of tokens by their hash, hidden states under `state.<i>`, top tokens under
//! `top.*`. Any number of processes may read and write one folder.

mod config;
mod folder;
mod format;
mod precision;
mod shard;
mod sheet;
mod store;

pub use config::TeacherCacheConfig;
pub use precision::StatePrecision;
pub use store::TeacherCache;

pub(super) use format::Item;
