//! The file of a calibrated halting head, beside the student it belongs to.

use std::fs;
use std::path::{Path, PathBuf};

use super::load::Loaded;
use crate::disk::write_atomically;
use crate::error::{Error, Result};
use crate::halting::Halting;

/// Name of the file beside a student's weights.
pub const HALTING_FILE: &str = "halting.json";
/// Most bytes of the file.
const LONGEST: u64 = 1 << 26;

/// Path of the halting head of a student that was loaded from a folder.
///
/// # Errors
/// It was not loaded from a folder.
pub fn halting_file(student: &Loaded) -> Result<PathBuf> {
    let folder = Path::new(&student.checkpoint.origin);
    if !folder.is_dir() {
        return Err(Error::input("a student that is not a folder has no place for a halting head")
            .at(&student.checkpoint.origin)
            .hint("give the file with --out and --halting"));
    }
    Ok(folder.join(HALTING_FILE))
}

/// Reads the halting head of `student`, beside it or from `path`.
///
/// # Errors
/// There is none, it is damaged, or it belongs to another model.
pub fn read_halting(student: &Loaded, path: Option<&Path>) -> Result<Halting> {
    let path = path.map_or_else(|| halting_file(student), |path| Ok(path.to_owned()))?;
    let calibrate = "run: factorize calibrate --student S --teacher T --text FILES";
    if !path.exists() {
        return Err(Error::input("this student was not calibrated: there is no such file")
            .at(path.display())
            .hint(calibrate));
    }
    let failed = |error: &std::io::Error| Error::io("reading", &path, error);
    if fs::metadata(&path).map_err(|error| failed(&error))?.len() > LONGEST {
        return Err(Error::input("this is too long for a halting head").at(path.display()));
    }
    let text = fs::read(&path).map_err(|error| failed(&error))?;
    let halting: Halting = serde_json::from_slice(&text).map_err(|error| {
        Error::input(format!("this is not a halting head: {error}"))
            .at(path.display())
            .hint(calibrate)
    })?;
    let width = student.looped()?.config().base.width;
    halting
        .check(&student.checkpoint.fingerprint, width)
        .map_err(|error| error.at(path.display()))?;
    Ok(halting)
}

/// Writes a halting head atomically.
///
/// # Errors
/// The disk is full, or the folder cannot be written to.
pub fn write_halting(path: &Path, halting: &Halting) -> Result<()> {
    let text = serde_json::to_vec(halting)
        .map_err(|error| Error::internal(format!("writing a halting head: {error}")))?;
    write_atomically(path, &text)
}
