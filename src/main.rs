//! `factorize`: argv in, exit code out.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    keep_pages();
    factorexe::cli::main(&std::env::args_os().collect::<Vec<_>>())
}

/// Freed memory stays with the program for a while: what one step frees the next one takes, and
/// giving it back in between has the kernel clear every page again.
/// `MIMALLOC_PURGE_DELAY` in the environment wins.
fn keep_pages() {
    #[expect(unsafe_code, reason = "the allocator has no safe form of its options")]
    // SAFETY: the program has just started and has one thread; the number of the option is the one
    // the allocator is built with, and it takes any number of milliseconds.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT_MS);
    }
}

/// Longer than a step of a large model takes: what is given back between two uses in a step is cleared
/// again in the next, a sixth of a step of four seconds.
const KEPT_MS: std::ffi::c_long = 30_000;

/// `mi_option_purge_delay` of `mimalloc.h`: milliseconds until freed pages are given back.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
