//! The source of a model: a folder, a GGUF file or a Hub repository.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::id::{HubId, parse_hub_id};
use crate::error::{Error, Result};

/// A published checkpoint: a folder, a GGUF file or a repository of the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder with `config.json` and safetensors.
    Folder(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
    /// A repository.
    Hub(HubId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) | Self::Gguf(path) => path.display().fmt(f),
            Self::Hub(id) => id.fmt(f),
        }
    }
}

impl FromStr for Source {
    type Err = Error;

    /// A path that exists wins over a repository of the same spelling.
    fn from_str(text: &str) -> Result<Self> {
        let path = Path::new(text);
        let is_gguf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if path.exists() {
            return if is_gguf { Ok(Self::Gguf(path.to_owned())) } else { Err(wrong_file(path)) };
        }
        if is_gguf {
            return Err(Error::input(format!("there is no file `{text}`"))
                .hint("check the spelling, and the folder you are in"));
        }
        parse_hub_id(text).map(Self::Hub).ok_or_else(|| {
            Error::input(format!("`{text}` is neither a folder, nor a file, nor a name on the Hub"))
                .hint(
                    "a model is a folder with config.json and safetensors, a file.gguf, or \
                 owner/name[@revision] on the Hugging Face Hub",
                )
        })
    }
}

fn wrong_file(path: &Path) -> Error {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    Error::input(format!("`{}` is a file, but not a GGUF file", path.display()))
        .hint(format!("safetensors are named by their folder: {}", folder.display()))
}
