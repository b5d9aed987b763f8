//! How does a long run stop early, and where does it run?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// A request to stop, set by Ctrl-C and read between micro-batches. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Not yet requested.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that watches to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Stack of the thread that trains. Only the pages that are touched take memory.
const STACK_BYTES: usize = 1 << 30;

/// Runs `work` on a thread with a stack of 1 GiB: candle walks and drops a graph by recursion,
/// and a block that is applied often enough overflows the usual 8 MiB.
///
/// # Errors
/// Those of `work`, or the thread cannot be started. A panic of `work` goes on in the caller.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("train".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| {
                Error::input(format!("cannot start a thread with a stack of 1 GiB: {error}"))
                    .hint("is virtual memory limited? see `ulimit -v`")
            })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
