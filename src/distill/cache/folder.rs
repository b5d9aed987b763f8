//! Is there room for another file of the cache?

use std::fs;
use std::io::{self, Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use safetensors::SafeTensorError;

/// Its time of change tells when a teacher's folder was opened last.
const MARKER: &str = "opened";
const SHARD: &str = "shard-";
const ENDING: &str = ".safetensors";
const PART: &str = ".part";
/// What was touched more recently may be in use by another process.
const IN_USE: Duration = Duration::from_hours(1);

/// The folder of one teacher among those of others.
#[derive(Debug)]
pub(super) struct Folder {
    /// Of all teachers.
    root: PathBuf,
    own: PathBuf,
    limit_bytes: u64,
}

impl Folder {
    /// Makes the folder if anything may be written into it, and removes what a killed process
    /// left half-written.
    ///
    /// # Errors
    /// It cannot be made.
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
                // What cannot be removed takes room, no more.
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

    /// The whole files, in order of name.
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

    /// Whether `more` bytes fit below the limit, after those teachers went that were used longest
    /// ago and not within the hour.
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

    /// A new file, whole or not at all, written by `write` under another name.
    ///
    /// # Errors
    /// The disk is full or fails; then nothing is left of it.
    pub(super) fn publish(
        &self,
        write: impl FnOnce(&Path) -> Result<(), SafeTensorError>,
    ) -> io::Result<PathBuf> {
        // Another process may have taken the folder for one that nobody uses.
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

/// When it was written last; long ago when that cannot be told.
fn changed(path: &Path) -> SystemTime {
    path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn is_idle(used: SystemTime) -> bool {
    used.elapsed().is_ok_and(|age| age >= IN_USE)
}
