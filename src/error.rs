//! The error type: a message, the place it belongs to, the next step, and the error beneath.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// `1 document`, `2 documents`: a number and its noun in a message.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Who has to act on an error, and the exit code that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Something the user gave: a file, a recipe, a full disk. Exit code 1.
    Input,
    /// The command line itself: a flag, or a combination of flags. Exit code 2.
    Usage,
    /// The host or the device is out of memory. Exit code 1.
    Memory,
    /// A defect of this program. Exit code 1.
    Internal,
    /// The user pressed Ctrl-C; the hint says what was saved. Exit code 130.
    Interrupted,
}

impl Kind {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Usage => "usage",
            Self::Memory => "memory",
            Self::Internal => "internal",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a training or an evaluation can do with less memory.
const LESS_MEMORY: &str = "lower train.batch_rows (and raise train.accumulate by as much) or \
    data.window_tokens, or set depth.recompute = \"always\"; for an evaluation lower \
    eval.batch_rows or --window; --device cpu uses the memory of the host";

/// The error beneath another one.
type Source = Box<dyn StdError + Send + Sync>;

/// An error that says what happened, where, and the next step.
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
    source: Option<Source>,
}

impl Error {
    fn new(kind: Kind, message: String) -> Self {
        let inner = Inner { kind, message, place: None, hint: None, source: None };
        Self { inner: Box::new(inner) }
    }

    /// An error in what the user gave: what was found and what was expected, in one sentence.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message.into())
    }

    /// An error in the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message.into())
    }

    /// A defect of this program.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message.into())
    }

    /// The user stopped the work.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, message.into())
    }

    /// The host or the device is out of memory, with what to lower.
    fn out_of_memory(detail: &str) -> Self {
        let detail = detail.lines().next().unwrap_or_default();
        Self::new(Kind::Memory, format!("out of memory: {detail}")).hint(LESS_MEMORY)
    }

    /// An operating system error about `path`, for example while `doing` "reading".
    pub fn io(doing: &str, path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let source = copy(error);
        if error.kind() == ErrorKind::OutOfMemory {
            let full = Self::out_of_memory(&format!("{doing} failed: {error}"));
            return full.at(path.as_ref().display()).caused_by(source);
        }
        let full = Self::input(format!("{doing} failed: {error}"))
            .at(path.as_ref().display())
            .caused_by(source);
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => full
                .hint("the disk is full: free some space, then run the same command with --resume"),
            ErrorKind::FileTooLarge => full.hint(
                "no file may grow larger here: raise the limit (`ulimit -f`) or use another file \
                 system, then run the same command with --resume",
            ),
            ErrorKind::PermissionDenied => full.hint("check the permissions of that path"),
            ErrorKind::NotFound => full.hint("check the spelling, and the folder you are in"),
            ErrorKind::IsADirectory => full.hint("this is a folder: give a file in it"),
            _ => full,
        }
    }

    /// Where: a file, a recipe key, a tensor. The innermost place given first wins.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.inner.place.get_or_insert_with(|| place.to_string());
        self
    }

    /// The next step for the reader. The innermost hint given first wins.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The error beneath this one, as [`std::error::Error::source`] returns it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.inner.source.get_or_insert_with(|| source.into());
        self
    }

    /// Who has to act.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The first line, without place and hint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The place it belongs to, when it has one.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.inner.place.as_deref()
    }

    /// The next step, when there is one.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The exit code of a program that ends with this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.inner.kind {
            Kind::Input | Kind::Memory | Kind::Internal => 1,
            Kind::Usage => 2,
            Kind::Interrupted => 130,
        }
    }
}

/// The same operating system error once more: [`std::io::Error`] cannot be cloned.
fn copy(error: &std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::new(error.kind(), error.to_string()),
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

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// How CUDA, cuBLAS, cuDNN, Metal and the operating system say that memory ran out.
const OUT_OF_MEMORY: [&str; 5] = [
    "out of memory",
    "out_of_memory",
    "alloc_failed",
    "cannot allocate memory",
    "failed to allocate",
];

fn says_out_of_memory(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    OUT_OF_MEMORY.iter().any(|part| text.contains(part))
}

impl From<candle_core::Error> for Error {
    /// An error of ours that went through candle comes back as it was. Of candle's own, memory
    /// that ran out is told as such, files belong to the user, and the rest (shapes, types) is a
    /// defect of this program.
    fn from(error: candle_core::Error) -> Self {
        use candle_core::Error as Candle;
        match error {
            Candle::WrappedContext { wrapped, context } => match wrapped.downcast::<Self>() {
                Ok(own) => *own,
                Err(wrapped) => own(Candle::WrappedContext { wrapped, context }),
            },
            Candle::WithBacktrace { inner, .. }
                if matches!(*inner, Candle::WrappedContext { .. }) =>
            {
                Self::from(*inner)
            }
            Candle::Io(error) => {
                Self::input(format!("reading or writing failed: {error}")).caused_by(error)
            }
            error => own(error),
        }
    }
}

/// An error of candle's own.
fn own(error: candle_core::Error) -> Error {
    let text = error.to_string();
    if says_out_of_memory(&text) {
        return Error::out_of_memory(&text).caused_by(error);
    }
    Error::internal(text).caused_by(error)
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        Self::WrappedContext { wrapped: Box::new(error), context: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn one_thing_is_singular() {
        let counts = [0, 1, 12].map(|count| counted(count, "layer"));
        assert_eq!(counts, ["0 layers", "1 layer", "12 layers"]);
    }

    #[test]
    fn an_operating_system_error_is_kept_as_the_source() {
        let error = Error::io("reading", "a.csv", &io::Error::from_raw_os_error(2));
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!((source.kind(), source.raw_os_error()), (io::ErrorKind::NotFound, Some(2)));
        assert_eq!((error.kind(), error.place()), (Kind::Input, Some("a.csv")));
        let made = Error::io("reading", "x", &io::Error::other("made up"));
        assert_eq!(made.source().unwrap().to_string(), "made up");
    }

    #[test]
    fn a_device_out_of_memory_says_what_to_lower_and_keeps_its_source() {
        for text in [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "Cannot allocate memory (os error 12)",
        ] {
            let error = Error::from(candle_core::Error::Cuda(text.into()));
            assert_eq!((error.kind(), error.exit_code()), (Kind::Memory, 1), "{text}");
            assert!(error.message().starts_with("out of memory: "), "{error}");
            for lower in ["train.batch_rows", "data.window_tokens", "depth.recompute"] {
                assert!(error.next_step().unwrap().contains(lower), "{error}");
            }
            assert!(error.source().unwrap().to_string().contains(text));
        }
        let enomem = io::Error::from(io::ErrorKind::OutOfMemory);
        assert_eq!(Error::io("mapping", "x", &enomem).kind(), Kind::Memory);
    }

    #[test]
    fn a_shape_that_does_not_fit_is_a_defect_of_this_program() {
        let one = candle_core::Tensor::zeros(2, candle_core::DType::F32, &candle_core::Device::Cpu);
        let error = Error::from(one.unwrap().reshape(3).unwrap_err());
        assert_eq!((error.kind(), error.exit_code()), (Kind::Internal, 1));
        assert!(error.source().unwrap().is::<candle_core::Error>());
    }

    #[test]
    fn an_error_that_goes_through_candle_comes_back_as_it_was() {
        let there = candle_core::Error::from(Error::usage("no").at("here").hint("do"));
        let back = Error::from(there.bt());
        assert_eq!((back.kind(), back.message()), (Kind::Usage, "no"));
        assert_eq!((back.place(), back.next_step()), (Some("here"), Some("do")));
    }
}
