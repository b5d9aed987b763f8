//! Who is told how far a long task has come?

/// What the library tells while it works. Only the command line draws it.
pub trait Observer: Send + Sync {
    /// A task of `total` units starts (0: unknown), for example ("tokenise", 120, "files").
    fn begin(&self, task: &str, total: u64, unit: &str);
    /// The running task stands at `done` units; `message` is short and changes often.
    fn advance(&self, done: u64, message: &str);
    /// The running task is over.
    fn end(&self);
    /// Something worth a line: a choice that was made, a file that was written.
    fn note(&self, message: &str);
    /// Something is wrong but the work goes on.
    fn warn(&self, message: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {
    fn begin(&self, _task: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _done: u64, _message: &str) {}
    fn end(&self) {}
    fn note(&self, _message: &str) {}
    fn warn(&self, _message: &str) {}
}
