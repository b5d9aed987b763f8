//! `factorize`: argv in, exit code out.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    factorexe::cli::main(&std::env::args_os().collect::<Vec<_>>())
}
