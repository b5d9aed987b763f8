//! What did the teacher say before?
//!
//! A folder a teacher, `<cache>/teacher/<key>/`, with files `shard-*.safetensors` that are written
//! once: rows of tokens by their hash, the teacher's states under `state.<i>`, its likeliest
//! tokens under `top.*`. Any number of processes may read and write one folder.

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
