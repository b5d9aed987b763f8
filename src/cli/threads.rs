//! How many threads does the arithmetic have?

use crate::error::{Error, Result};

/// candle reads this when it starts its own threads.
const VARIABLE: &str = "RAYON_NUM_THREADS";

/// Sets the threads of rayon and of candle; called before anything computes.
pub(super) fn set(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    if threads == 0 || threads > 4096 {
        return Err(Error::input(format!("--threads {threads}: expected 1 to 4096")));
    }
    // SAFETY: the program has just started and has one thread; nothing reads the environment now.
    #[expect(unsafe_code, reason = "candle takes its number of threads from the environment")]
    unsafe {
        std::env::set_var(VARIABLE, threads.to_string());
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|error| {
        Error::internal(format!("the threads of the arithmetic cannot be started: {error}"))
    })
}
