//! The context of long work: the device that computes, the observer that receives the progress, the
//! request to stop, the cache folder and the threads.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

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

impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn begin(&self, task: &str, total: u64, unit: &str) {
        T::begin(self, task, total, unit);
    }
    fn advance(&self, done: u64, message: &str) {
        T::advance(self, done, message);
    }
    fn end(&self) {
        T::end(self);
    }
    fn note(&self, message: &str) {
        T::note(self, message);
    }
    fn warn(&self, message: &str) {
        T::warn(self, message);
    }
}

/// A request to stop, for example by Ctrl-C. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// Not yet requested.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests that all work of the contexts that share it stops.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was requested.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The default of [`Context::cache_limit_bytes`]: 8 GB.
pub const CACHE_LIMIT_BYTES: u64 = 8_000_000_000;

/// What long work is given: device, observer, cancellation, cache folder and threads. Clones are cheap
/// and share the observer, the cancellation and the threads.
///
/// ```
/// use factorexe::context::{Cancellation, Context};
///
/// let stop = Cancellation::new();
/// let context = Context::cpu().with_cache("cache").with_cancellation(stop.clone());
/// assert!(context.check_cancelled("before the first step").is_ok());
/// stop.cancel();
/// assert!(context.check_cancelled("before the first step").is_err());
/// ```
#[derive(Clone)]
pub struct Context {
    device: Device,
    observer: Arc<dyn Observer>,
    cancellation: Cancellation,
    cancelled_when: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    cache: PathBuf,
    cache_limit_bytes: u64,
    threads: Option<Arc<ThreadPool>>,
}

impl Default for Context {
    fn default() -> Self {
        Self::cpu()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("device", &self.device)
            .field("cancelled", &self.is_cancelled())
            .field("cache", &self.cache)
            .field("cache_limit_bytes", &self.cache_limit_bytes)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// A context that computes on `device`, reports to nobody, is never cancelled, caches in the
    /// folder `factorexe` of the system's temporary folder, and uses rayon's global threads.
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self {
            device,
            observer: Arc::new(Quiet),
            cancellation: Cancellation::new(),
            cancelled_when: None,
            cache: std::env::temp_dir().join("factorexe"),
            cache_limit_bytes: CACHE_LIMIT_BYTES,
            threads: None,
        }
    }

    /// [`Context::new`] on the CPU.
    #[must_use]
    pub fn cpu() -> Self {
        Self::new(Device::Cpu)
    }

    /// Reports to `observer`; an [`Arc`] of an observer is one, too.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Stops when `cancellation` is cancelled.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// Also stops when `condition` is true, for example past a deadline. It is polled often.
    #[must_use]
    pub fn cancelled_when(mut self, condition: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.cancelled_when = Some(Arc::new(condition));
        self
    }

    /// Caches token files and teacher outputs in `folder`.
    #[must_use]
    pub fn with_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = folder.into();
        self
    }

    /// Deletes the oldest cached teacher outputs beyond so many bytes; 0 writes none.
    #[must_use]
    pub fn with_cache_limit(mut self, bytes: u64) -> Self {
        self.cache_limit_bytes = bytes;
        self
    }

    /// Computes [`Context::install`] on `threads` threads of its own; 0: one for each core.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn with_threads(mut self, threads: usize) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| {
            Error::internal(format!("{threads} threads cannot be started: {error}"))
        })?;
        self.threads = Some(Arc::new(pool));
        Ok(self)
    }

    /// Runs `work` on the threads of this context: those of [`Context::with_threads`], or rayon's
    /// global ones.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.threads {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// The device that computes.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The folder of cached token files and teacher outputs.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Most bytes of all cached teacher outputs; 0: none are written.
    #[must_use]
    pub fn cache_limit_bytes(&self) -> u64 {
        self.cache_limit_bytes
    }

    /// The request to stop that this context polls.
    #[must_use]
    pub fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    /// Whether the work is to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled() || self.cancelled_when.as_ref().is_some_and(|when| when())
    }

    /// Fails when the work is to stop; `during` says where it was: "while the text was tokenised".
    ///
    /// # Errors
    /// The work is to stop.
    pub fn check_cancelled(&self, during: &str) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::interrupted(format!("stopped {during}")));
        }
        Ok(())
    }

    /// Reports that a task of `total` units starts; 0: unknown.
    pub fn begin(&self, task: &str, total: u64, unit: &str) {
        self.observer.begin(task, total, unit);
    }

    /// Reports that the running task has done `done` units.
    pub fn advance(&self, done: u64, message: &str) {
        self.observer.advance(done, message);
    }

    /// Reports that the running task ends.
    pub fn end(&self) {
        self.observer.end();
    }

    /// Reports a line worth showing.
    pub fn note(&self, message: &str) {
        self.observer.note(message);
    }

    /// Reports a problem that does not stop the work.
    pub fn warn(&self, message: &str) {
        self.observer.warn(message);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Observer for Lines {
        fn begin(&self, task: &str, total: u64, unit: &str) {
            self.note(&format!("{task} {total} {unit}"));
        }
        fn advance(&self, done: u64, message: &str) {
            self.note(&format!("{done} {message}"));
        }
        fn end(&self) {
            self.note("end");
        }
        fn note(&self, message: &str) {
            self.0.lock().unwrap().push(message.to_owned());
        }
        fn warn(&self, message: &str) {
            self.note(&format!("warning: {message}"));
        }
    }

    #[test]
    fn an_observer_receives_what_a_context_and_its_clones_report() {
        let lines = Arc::new(Lines::default());
        let context = Context::cpu().with_observer(lines.clone());
        context.begin("train", 3, "steps");
        context.clone().advance(1, "loss 2");
        context.end();
        context.warn("slow");
        assert_eq!(*lines.0.lock().unwrap(), ["train 3 steps", "1 loss 2", "end", "warning: slow"]);
    }

    #[test]
    fn work_runs_on_the_threads_of_its_context() {
        let context = Context::cpu().with_threads(3).unwrap();
        assert_eq!(context.install(rayon::current_num_threads), 3);
        let global = rayon::current_num_threads();
        assert_eq!(Context::cpu().install(rayon::current_num_threads), global);
    }

    #[test]
    fn a_condition_cancels_as_a_request_does() {
        let context = Context::cpu().cancelled_when(|| true);
        let error = context.check_cancelled("while nothing was done").unwrap_err();
        assert_eq!(error.message(), "stopped while nothing was done");
        assert!(!context.cancellation().is_cancelled());
    }
}
