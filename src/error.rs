//! What went wrong, where, and what to do about it?

use std::fmt;
use std::path::Path;

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Whose turn it is to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something the user gave: a file, a recipe, a flag, a full disk. Exit code 1.
    Input,
    /// A defect of this program. Exit code 2.
    Internal,
    /// The user pressed Ctrl-C; what was saved is in the hint. Exit code 1.
    Interrupted,
}

/// An error that says what, where, and the next step.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    place: Option<String>,
    hint: Option<String>,
}

impl Error {
    fn new(kind: Kind, message: String) -> Self {
        Self { inner: Box::new(Inner { kind, message, place: None, hint: None }) }
    }

    /// The user's to mend: what was found and what was expected, in one sentence.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message.into())
    }

    /// Ours to mend.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message.into())
    }

    /// The user asked to stop.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, message.into())
    }

    /// An operating system error about `path`, for example while `doing` "reading".
    pub fn io(doing: &str, path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        let full = Self::input(format!("{doing} failed: {error}")).at(path.as_ref().display());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => full
                .hint("the disk is full: free some space, then run the same command with --resume"),
            std::io::ErrorKind::FileTooLarge => full.hint(
                "no file may grow larger here: raise the limit (`ulimit -f`) or use another file \
                 system, then run the same command with --resume",
            ),
            std::io::ErrorKind::PermissionDenied => full.hint("check the permissions of that path"),
            _ => full,
        }
    }

    /// Where: a file, a recipe key, a tensor. The innermost place given first wins.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.inner.place.get_or_insert_with(|| place.to_string());
        self
    }

    /// The next step for the reader.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Whose turn it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The first line, without place and hint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The exit code of a program that ends with this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.inner.kind {
            Kind::Input | Kind::Interrupted => 1,
            Kind::Internal => 2,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        if let Some(place) = &self.inner.place {
            write!(f, "\n  in {place}")?;
        }
        if let Some(hint) = &self.inner.hint {
            write!(f, "\n\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        Self::Msg(error.to_string())
    }
}
