//! The source of a model: a folder, a GGUF file or a Hub repository.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::id::{HubId, parse_hub_id};
use crate::disk::near;
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

    /// A path that exists wins over a repository of the same spelling. What looks like a path and
    /// is not there is no repository: it is named, with the nearest path that is a model.
    fn from_str(text: &str) -> Result<Self> {
        let path = Path::new(text);
        let is_gguf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if path.exists() {
            return if is_gguf { Ok(Self::Gguf(path.to_owned())) } else { Err(wrong_file(path)) };
        }
        match parse_hub_id(text).filter(|id| !is_gguf && !is_meant_as_path(text, id)) {
            Some(id) => Ok(Self::Hub(id)),
            None => Err(no_such_model(text, is_gguf)),
        }
    }
}

/// Whether a text that is spelt as a repository is a mistyped path: the folder that would hold it is
/// here, or a path of nearly the same spelling is a model. A revision makes it a repository.
fn is_meant_as_path(text: &str, id: &HubId) -> bool {
    id.revision.is_none()
        && (Path::new(&id.owner).is_dir()
            || near(Path::new(text)).is_some_and(|path| is_model(&path)))
}

/// Whether a path is a model, or a run with one in it.
fn is_model(path: &Path) -> bool {
    let holds = |inner: &str| path.join(inner).join("config.json").is_file();
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
        || ["", "student", "model"].into_iter().any(holds)
}

fn no_such_model(text: &str, is_gguf: bool) -> Error {
    let is_path = is_gguf || text.contains(['/', '\\']) || text.starts_with(['.', '~']);
    let error = match (is_gguf, is_path) {
        (true, _) => Error::input(format!("there is no file `{text}`")),
        (false, true) => Error::input(format!("there is no folder `{text}`")),
        (false, false) => {
            Error::input(format!("`{text}` is not a folder, a file or a name on the Hub"))
        }
    };
    if text.starts_with("~/") {
        return error
            .hint("a shell replaces `~` only where it is not quoted: write the whole path");
    }
    if let Some(near) = near(Path::new(text)).filter(|path| is_model(path)) {
        return error.hint(format!("did you mean {}?", near.display()));
    }
    let models = "a model is a folder with config.json and safetensors, a file.gguf, or \
                  owner/name[@revision] on the Hugging Face Hub";
    match parse_hub_id(text).filter(|_| !is_gguf) {
        Some(id) => error.hint(format!(
            "check the spelling, and the folder you are in; a repository of the Hub whose name \
             begins like a folder here takes its revision: {}@main",
            id.repository()
        )),
        None if is_path => {
            error.hint(format!("check the spelling, and the folder you are in; {models}"))
        }
        None => error.hint(models),
    }
}

fn wrong_file(path: &Path) -> Error {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    Error::input(format!("`{}` is a file, but not a GGUF file", path.display()))
        .hint(format!("safetensors are named by their folder: {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<Source>().unwrap_err().to_string()
    }

    #[test]
    fn a_mistyped_folder_is_named_and_is_no_repository() {
        // Tests run in the folder of the crate, which holds recipes/sotu-12l.
        let text = refused("recipe/sotu-12l");
        assert!(text.contains("no folder `recipe/sotu-12l`"), "{text}");
        assert!(text.contains("did you mean recipes/sotu-12l?"), "{text}");
        let text = refused("recipes/qwerty");
        assert!(
            text.contains("no folder `recipes/qwerty`") && text.contains("recipes/qwerty@main")
        );
        for path in ["./a/b", "/a", "a/b/c", "../x", "~/models/x"] {
            assert!(refused(path).contains(&format!("no folder `{path}`")), "{path}");
        }
        assert!(refused("teachers/a.gguf").contains("no file `teachers/a.gguf`"));
        assert!(refused("nowhere").contains("owner/name"));
    }

    #[test]
    fn a_repository_is_one_unless_a_path_is_there() {
        for id in ["HuggingFaceTB/SmolLM2-135M", "a/b@main", "recipes/other@main"] {
            let source: Source = id.parse().unwrap();
            assert!(matches!(&source, Source::Hub(hub) if hub.to_string() == id), "{source:?}");
        }
        assert!(matches!("recipes/sotu-12l".parse().unwrap(), Source::Folder(_)));
    }
}
