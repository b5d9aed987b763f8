//! The folder of a teacher's cache: its files and the size limit over all teachers.

use std::fs;
use std::io::{self, Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use safetensors::SafeTensorError;

/// Its modification time is when a teacher's folder was last used.
const MARKER: &str = "opened";
const SHARD: &str = "shard-";
const ENDING: &str = ".safetensors";
const PART: &str = ".part";
/// A folder used more recently may be in use by another process.
const IN_USE: Duration = Duration::from_hours(1);

/// The folder of one teacher.
#[derive(Debug)]
pub(super) struct Folder {
    /// The folder of all teachers.
    root: PathBuf,
    own: PathBuf,
    limit_bytes: u64,
}

impl Folder {
    /// Creates the folder if the limit allows writing, and removes the unfinished files of killed
    /// processes.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub(super) fn open(root: PathBuf, key: &str, limit_bytes: u64) -> io::Result<Self> {
        let folder = Self { own: root.join(key), root, limit_bytes };
        if limit_bytes > 0 {
            fs::create_dir_all(&folder.own)?;
        }
        if folder.own.exists() {
            folder.touch()?;
        }
        for path in files(&folder.own) {
            if name(&path).ends_with(PART) && is_idle(changed(&path)) {
                // A file that cannot be removed only takes space.
                let _ = fs::remove_file(path);
            }
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.own
    }

    /// Most bytes of all teachers.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    fn touch(&self) -> io::Result<()> {
        fs::write(self.own.join(MARKER), "\n")
    }

    /// The finished files in order of name.
    pub(super) fn shards(&self) -> Vec<PathBuf> {
        let is_shard =
            |path: &PathBuf| name(path).starts_with(SHARD) && name(path).ends_with(ENDING);
        let mut shards: Vec<PathBuf> = files(&self.own).filter(is_shard).collect();
        shards.sort();
        shards
    }

    /// Bytes of this teacher's files.
    pub(super) fn bytes(&self) -> u64 {
        bytes(&self.own)
    }

    /// Whether `more` bytes fit below the limit. Deletes the least recently used folders of other
    /// teachers first, except those that may be in use.
    pub(super) fn make_room(&self, more: u64) -> bool {
        let mut others: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for path in files(&self.root).filter(|path| *path != self.own) {
            let marker = path.join(MARKER);
            let used = if marker.exists() { &marker } else { &path };
            others.push((changed(used), path.clone(), bytes(&path)));
        }
        others.sort();
        let mut total = self.bytes() + others.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
        for (used, path, bytes) in others {
            if total + more > self.limit_bytes && is_idle(used) && fs::remove_dir_all(&path).is_ok()
            {
                total -= bytes;
            }
        }
        total + more <= self.limit_bytes
    }

    /// Creates a file atomically: `write` writes it under a temporary name.
    ///
    /// # Errors
    /// The disk is full or fails; then the temporary file is removed.
    pub(super) fn publish(
        &self,
        write: impl FnOnce(&Path) -> Result<(), SafeTensorError>,
    ) -> io::Result<PathBuf> {
        // Another process may have deleted the folder as unused.
        fs::create_dir_all(&self.own)?;
        self.touch()?;
        let ending = format!("{ENDING}{PART}");
        let part = tempfile::Builder::new()
            .prefix(SHARD)
            .suffix(&ending)
            .rand_bytes(12)
            .tempfile_in(&self.own)?;
        write(part.path()).map_err(|error| match error {
            SafeTensorError::IoError(error) => error,
            error => Error::new(ErrorKind::InvalidData, error.to_string()),
        })?;
        part.as_file().sync_all()?;
        let path = part.path().with_extension("");
        part.persist_noclobber(&path).map_err(|error| error.error)?;
        Ok(path)
    }
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

fn bytes(folder: &Path) -> u64 {
    files(folder).filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum()
}

/// Time of the last modification; the epoch if it is unknown.
fn changed(path: &Path) -> SystemTime {
    path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn is_idle(used: SystemTime) -> bool {
    used.elapsed().is_ok_and(|age| age >= IN_USE)
}
