//! The one integration-test binary: candle links slowly.

// Integration tests are no `cfg(test)`, so what .clippy.toml allows in tests is said again here.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::pedantic)]
#![allow(missing_docs, unreachable_pub)]

mod architecture;
mod data;
mod distill;
mod eval;
mod export;
mod generate;
mod gguf;
mod gradients;
mod hub;
mod hub_remote;
mod support;
mod teacher;
mod tokenizer;
mod training;
