//! Read-only memory maps of files.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// Maps the file at `path`, read-only.
///
/// # Errors
/// The file is missing, empty, a folder, or cannot be mapped.
#[expect(unsafe_code, reason = "a memory map is the only way to read gigabytes without copying")]
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let failed = |error: std::io::Error| Error::io("reading", path, &error);
    // Asked before it is opened: opening a pipe waits for a writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::input("this is not a file").at(path.display()));
    }
    if metadata.len() == 0 {
        return Err(Error::input("the file is empty").at(path.display()).hint("fetch it again"));
    }
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the bytes must not change while they are mapped. The map is read-only and lives only
    // while a checkpoint is loaded; whoever overwrites the file meanwhile gets garbage or SIGBUS,
    // as with every loader that maps weights.
    unsafe { Mmap::map(&file) }.map_err(failed)
}

/// Maps a file of a cache, read-only.
#[expect(unsafe_code, reason = "memory maps are the point of this file")]
pub(crate) fn map_cached(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the bytes must not change while they are mapped. Files of a cache are written
    // under another name, renamed when complete and never written again; a rebuilt one is a new
    // file under the old name, so an existing map keeps the old bytes.
    unsafe { Mmap::map(file) }
}
