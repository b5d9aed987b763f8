//! The lock of a run folder: one process at a time.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// A folder that is in use until this value is dropped or its process dies, however it dies.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the folder, making it if there is none.
    ///
    /// # Errors
    /// Another run holds it, or it cannot be written.
    pub fn acquire(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::io("making the run folder", folder, &error))?;
        let path = folder.join("lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| Error::io("opening the lock of the run", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only for the message; whose it is may be unreadable where locks are mandatory.
                let _ = file.read_to_string(&mut owner);
                let owner = owner.trim();
                let owner = if owner.is_empty() { "another process" } else { owner };
                return Err(Error::input(format!("this run folder is in use by {owner}"))
                    .at(folder.display())
                    .hint("wait until it is done or stop it, or give another folder with --out"));
            }
            // Some network file systems have no locks; refusing to train there helps nobody.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(Error::io("locking the run folder", &path, &error));
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "process {}", std::process::id()))
            .map_err(|error| Error::io("writing the lock of the run", &path, &error))?;
        Ok(Self { _file: file })
    }
}
