//! `factorize`: argv in, exit code out.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    keep_pages();
    factorexe::cli::main(&std::env::args_os().collect::<Vec<_>>())
}

/// Freed memory stays with the program: what one step frees the next one takes, and giving it back
/// in between has the kernel clear every page again, a tenth of a step.
/// `MIMALLOC_PURGE_DELAY` in the environment wins.
fn keep_pages() {
    #[expect(unsafe_code, reason = "the allocator has no safe form of its options")]
    // SAFETY: the program has just started and has one thread; -1 is a documented value of this
    // option, and the number of the option is the one the allocator is built with.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1);
    }
}

/// `mi_option_purge_delay` of `mimalloc.h`: milliseconds until freed pages are given back.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
