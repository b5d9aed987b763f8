//! Atomic writes of files and folders.
//!
//! A file is written under a hidden name beside its destination, synced and renamed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use tempfile::Builder;

use crate::error::{Error, Result};

/// The end of every hidden name.
const UNFINISHED: &str = ".part";

/// Writes a file atomically: it appears complete, or stays as it was.
///
/// # Errors
/// The disk is full, or the folder cannot be written to.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error: &std::io::Error| Error::io("writing", path, error);
    let (folder, prefix) = beside(path);
    let made = Builder::new().prefix(&prefix).suffix(UNFINISHED).tempfile_in(folder);
    let mut file = made.map_err(|error| failed(&error))?;
    file.write_all(bytes).map_err(|error| failed(&error))?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    // A temporary file is private; what is made of it is as readable as any other file.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(|error| failed(&error))?;
    }
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}

/// A folder that is not there yet appears with all of the files that `write` puts into it.
///
/// # Errors
/// The disk is full, or the folder cannot be written to.
pub(crate) fn make_folder(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("making", path, &error);
    let (parent, prefix) = beside(path);
    let folder = Builder::new().prefix(&prefix).suffix(UNFINISHED).tempdir_in(parent);
    let folder = folder.map_err(failed)?;
    write(folder.path())?;
    for entry in fs::read_dir(folder.path()).map_err(failed)? {
        entry.and_then(|entry| File::open(entry.path())?.sync_all()).map_err(failed)?;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), readable).map_err(failed)?;
    }
    // An empty folder of that name is replaced; one with files in it is an error.
    fs::rename(folder.path(), path).map_err(failed)?;
    // Its hidden name is gone: there is nothing to delete.
    let _ = folder.keep();
    Ok(())
}

/// The folder of a path, and how the hidden names of the path begin.
fn beside(path: &Path) -> (&Path, String) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    (folder.unwrap_or(Path::new(".")), format!(".{name}."))
}

/// Whether a name is a hidden one of those in `made`.
pub(crate) fn is_unfinished(name: &OsStr, made: &[&str]) -> bool {
    let name = name.to_string_lossy();
    name.ends_with(UNFINISHED) && made.iter().any(|made| name.starts_with(&format!(".{made}.")))
}

/// Forces the names in a folder to the disk, where the system can.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| Error::io("forcing a checkpoint to the disk", folder, &error))?;
    }
    Ok(())
}
