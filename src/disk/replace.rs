//! Atomic replacement of a folder.
//!
//! The folder is written under a hidden name beside its destination, synced and renamed. What a
//! killed process left under hidden names is removed or restored by the next one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Written into by `write`, then put in the place of `folder`. What stands there is replaced when
/// it is empty or `replaceable`.
///
/// # Errors
/// The place is in use by something else, or the disk does not take it.
pub(crate) fn replace_folder(
    folder: &Path,
    replaceable: &dyn Fn(&Path) -> bool,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let place = Place::of(folder)?;
    fs::create_dir_all(&place.parent).map_err(|e| Error::io("making", &place.parent, &e))?;
    place.recover()?;
    if place.folder.exists() && !(is_empty(&place.folder) || replaceable(&place.folder)) {
        return Err(Error::input("this folder holds something that this program did not export")
            .at(place.folder.display())
            .hint("name another folder, or move this one away"));
    }
    let written = fs::create_dir(&place.writing)
        .map_err(|error| Error::io("making", &place.writing, &error))
        .and_then(|()| write(&place.writing))
        .and_then(|()| sync_all(&place.writing))
        .and_then(|()| place.put());
    if written.is_err() {
        // The disk may be full: give the space back. The first error is the one reported.
        let _ = fs::remove_dir_all(&place.writing);
    }
    written
}

struct Place {
    parent: PathBuf,
    folder: PathBuf,
    writing: PathBuf,
    old: PathBuf,
}

impl Place {
    fn of(folder: &Path) -> Result<Self> {
        // A link keeps pointing where it points: what it points to is replaced.
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let name = folder
            .file_name()
            .ok_or_else(|| Error::input("this is not the name of a folder").at(folder.display()))?;
        let name = name.to_string_lossy();
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).to_owned();
        let hidden = |state: &str| parent.join(format!(".{name}.{state}"));
        Ok(Self { writing: hidden("writing"), old: hidden("old"), parent, folder })
    }

    /// Puts right what a killed program left: either the old folder is in its place, or it is
    /// brought back there.
    fn recover(&self) -> Result<()> {
        if self.old.exists() {
            if self.folder.exists() {
                remove(&self.old)?;
            } else {
                rename(&self.old, &self.folder)?;
            }
        }
        if self.writing.exists() { remove(&self.writing) } else { Ok(()) }
    }

    /// No system swaps two folders by a portable call: for a moment between the two renames only
    /// the hidden ones exist.
    fn put(&self) -> Result<()> {
        let replaces = self.folder.exists();
        if replaces {
            rename(&self.folder, &self.old)?;
        }
        if let Err(error) = rename(&self.writing, &self.folder) {
            if replaces {
                let _ = fs::rename(&self.old, &self.folder);
            }
            return Err(error);
        }
        sync(&self.parent)?;
        if replaces { remove(&self.old) } else { Ok(()) }
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| Error::io("renaming", from, &error))
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(|error| Error::io("deleting", folder, &error))
}

/// Forces every file of a folder, then their names, to the disk.
fn sync_all(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|error| Error::io("listing", folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| Error::io("listing", folder, &error))?.path();
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|error| Error::io("forcing to the disk", &path, &error))?;
    }
    sync(folder)
}

/// Forces the names in a folder to the disk, where the system can.
fn sync(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Error::io("forcing to the disk", folder, &error))?;
    }
    Ok(())
}
