//! How is a file there whole, or as it was?

use std::io::Write;
use std::path::Path;

use tempfile::Builder;

use crate::error::{Error, Result};

/// Writes beside the place under a hidden name, forces it to the disk, and renames.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error: &std::io::Error| Error::io("writing", path, error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let made = Builder::new().prefix(".report.").suffix(".part").tempfile_in(folder);
    let mut file = made.map_err(|error| failed(&error))?;
    file.write_all(bytes).map_err(|error| failed(&error))?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    // A temporary file is private; what is made of it is as readable as any other file.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(|error| failed(&error))?;
    }
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}
