//! The one integration-test binary: candle links slowly.

// Integration tests are no `cfg(test)`, so what .clippy.toml allows in tests is said again here.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]
#![allow(missing_docs, unreachable_pub)]

mod data;
mod gguf;
mod tokenizer;
