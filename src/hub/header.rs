//! Validation of the header of a safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::error::{Error, Result};

/// As the format's own readers have it.
pub(super) const LONGEST_HEADER: u64 = 100_000_000;
/// Bytes that hold the length of the header.
const LENGTH_BYTES: u64 = 8;

/// Where one tensor lies.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The file.
    pub path: PathBuf,
    /// First byte in the file.
    pub start: u64,
    /// How many bytes.
    pub bytes: usize,
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
}

/// The tensors of the file at `path`, none of them read yet.
///
/// # Errors
/// The file is cut short, or its header contradicts itself or the file.
pub fn read_header(path: &Path) -> Result<BTreeMap<String, Stored>> {
    let mut file = File::open(path).map_err(|error| Error::io("opening", path, &error))?;
    let file_bytes = file.metadata().map_err(|error| Error::io("reading", path, &error))?.len();
    let refuse = |message: String| Error::input(message).at(path.display());
    let again = "the download was cut or the file is damaged: delete it and fetch it again";
    let too_short =
        || refuse(format!("{file_bytes} bytes are too few for safetensors")).hint(again);
    if file_bytes < LENGTH_BYTES {
        return Err(too_short());
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length).map_err(|error| Error::io("reading", path, &error))?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > LONGEST_HEADER || header_bytes > file_bytes - LENGTH_BYTES {
        let message = format!("the header claims {header_bytes} bytes, the file has {file_bytes}");
        return Err(refuse(message).hint(again));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(|error| Error::io("reading", path, &error))?;
    // The crate checks that offsets follow each other without gap or overlap, and fit the shapes.
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| refuse(format!("the header is not usable: {error}")).hint(again))?;
    let data_start = LENGTH_BYTES + header_bytes;
    let accounted = data_start + metadata.data_len() as u64;
    if accounted != file_bytes {
        let message =
            format!("the file is {file_bytes} bytes, its header accounts for {accounted}");
        return Err(refuse(message).hint(again));
    }
    let stored = metadata.tensors().into_iter().map(|(name, info)| {
        let (start, end) = info.data_offsets;
        let stored = Stored {
            path: path.to_owned(),
            start: data_start + start as u64,
            bytes: end - start,
            dtype: info.dtype,
            shape: info.shape.clone(),
        };
        (name, stored)
    });
    Ok(stored.collect())
}
