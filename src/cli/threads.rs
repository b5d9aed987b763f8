//! The thread pools of the arithmetic.

use crate::error::{Error, Result};

/// candle takes the threads of its matrix product from here.
const PRODUCTS: &str = "RAYON_NUM_THREADS";

/// candle's pool for the rest, whose threads spin while they wait: beside ours it would take the
/// cores that the other one needs.
const OTHERS: &str = "CANDLE_NUM_THREADS";

/// Stack of each thread. Only the pages that are touched take memory.
const STACK_BYTES: usize = 64 << 20;

/// Sets the threads of rayon and of candle; called before anything computes.
pub(super) fn set(threads: Option<usize>) -> Result<()> {
    if threads.is_some_and(|threads| threads == 0 || threads > 4096) {
        let threads = threads.unwrap_or_default();
        return Err(Error::usage(format!("--threads {threads}: expected 1 to 4096")));
    }
    let products = threads.map(|threads| (PRODUCTS, threads.to_string()));
    let others = std::env::var_os(OTHERS).is_none().then(|| (OTHERS, "1".to_owned()));
    for (variable, value) in products.into_iter().chain(others) {
        // SAFETY: the program has just started and has one thread; nothing reads the environment.
        #[expect(unsafe_code, reason = "candle takes its threads from the environment")]
        unsafe {
            std::env::set_var(variable, value);
        }
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .stack_size(STACK_BYTES)
        .build_global()
        .map_err(|error| {
            Error::internal(format!("the threads of the arithmetic cannot be started: {error}"))
        })
}

/// Runs `work` on one of those threads: from outside, every parallel loop would begin and end by
/// waking another thread.
pub(super) fn inside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}
