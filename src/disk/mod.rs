//! Files and folders: atomic writes, locks and memory maps.

mod atomic;
#[cfg(feature = "lab")]
mod json;
mod lock;
mod mmap;
mod near;
mod replace;

pub use atomic::write_atomically;
pub use lock::RunLock;
pub use near::near;

pub(crate) use atomic::{is_unfinished, make_folder, sync_folder};
#[cfg(feature = "lab")]
pub(crate) use json::write_json;
pub(crate) use mmap::{map, map_cached};
pub(crate) use replace::replace_folder;
