//! Progress of long tasks, reported to an observer.

/// Receives the progress of the library; the command line draws it.
pub trait Observer: Send + Sync {
    /// A task of `total` units starts (0: unknown), for example ("tokenise", 120, "files").
    fn begin(&self, task: &str, total: u64, unit: &str);
    /// The running task has done `done` units; `message` is short and changes often.
    fn advance(&self, done: u64, message: &str);
    /// The running task ends.
    fn end(&self);
    /// A line worth showing: a choice that was made, a file that was written.
    fn note(&self, message: &str);
    /// A problem that does not stop the work.
    fn warn(&self, message: &str);
}

/// An observer that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {
    fn begin(&self, _task: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _done: u64, _message: &str) {}
    fn end(&self) {}
    fn note(&self, _message: &str) {}
    fn warn(&self, _message: &str) {}
}
