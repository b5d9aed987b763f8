//! Where does a model come from?

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use crate::error::Stopped;
use crate::error::{Error, Result};
use crate::observe::Observer;

use super::checkpoint::Checkpoint;
use super::{folder, remote};

/// A repository of the Hugging Face Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// Whose it is.
    pub owner: String,
    /// What it is called.
    pub name: String,
    /// Branch, tag or commit; none is `main`.
    pub revision: Option<String>,
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

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

impl Source {
    /// Reads the checkpoint, from the network first when it must. `stopped` is asked now and then.
    ///
    /// # Errors
    /// It cannot be had, is damaged, or its family does not fit.
    pub fn load(&self, observer: &dyn Observer, stopped: &Stopped) -> Result<Checkpoint> {
        let mut checkpoint = match self {
            Self::Folder(path) => folder::load(path, observer, stopped)?,
            Self::Gguf(path) => super::gguf::load_gguf(path, observer)?,
            Self::Hub(id) => {
                let snapshot =
                    remote::fetch(id, &remote::HubConfig::from_env(), observer, stopped)?;
                folder::load(&snapshot, observer, stopped)?
            }
        };
        checkpoint.origin = self.to_string();
        Ok(checkpoint)
    }
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
            Error::input(format!("`{text}` is no folder, no file and no name on the Hub")).hint(
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

fn parse_hub_id(text: &str) -> Option<HubId> {
    let (id, revision) = match text.split_once('@') {
        Some((id, revision)) => (id, Some(revision)),
        None => (text, None),
    };
    let (owner, name) = id.split_once('/')?;
    let plain = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.len() <= 96 && !part.starts_with('.') && part.chars().all(allowed)
    };
    // A revision becomes part of paths in the cache.
    let safe = |revision: &str| {
        revision.split('/').all(|part| {
            !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']) && part.is_ascii()
        })
    };
    (plain(owner) && plain(name) && revision.is_none_or(safe)).then(|| HubId {
        owner: owner.to_owned(),
        name: name.to_owned(),
        revision: revision.map(str::to_owned),
    })
}
