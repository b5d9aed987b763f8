//! `factorize`: argv in, exit code out.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    retain_pages();
    factorexe::cli::main(&std::env::args_os().collect::<Vec<_>>())
}

/// Sets how long freed memory stays with the program: one step allocates what the last one freed,
/// and the kernel clears every page that was given back in between. `MIMALLOC_PURGE_DELAY` in the
/// environment overrides it.
fn retain_pages() {
    #[expect(unsafe_code, reason = "the allocator has no safe form of its options")]
    // SAFETY: the program has just started and has one thread; the number of the option is the one
    // of the allocator that is linked, which accepts any number of milliseconds.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, RETENTION_MS);
    }
}

/// Milliseconds, longer than a step of a large model takes: pages given back within a step are cleared
/// again in the next, which took a sixth of a step of four seconds.
const RETENTION_MS: std::ffi::c_long = 30_000;

/// `mi_option_purge_delay` of `mimalloc.h`: milliseconds until freed pages are given back.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
