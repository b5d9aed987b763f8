//! The one integration-test binary: candle links slowly.

// Integration tests are no `cfg(test)`, so what .clippy.toml allows in tests is said again here.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::pedantic)]
#![allow(missing_docs, unreachable_pub)]

mod architecture;

mod cli;
mod data;
mod decode;
mod depth;
mod distill;
mod eval;
mod export;
mod fit;
mod generate;
mod gguf;
mod glossary;
mod golden;
mod gradients;
mod hub;
mod hub_remote;
mod injection;
mod joint;
mod narrow;
mod package;
mod per_token_depth;
mod policies;
mod readme;
mod recipes;
mod report;
mod state_norm;
mod study;
mod support;
mod tasks;
mod teacher;
mod teacher_cache;
mod tokenizer;
mod training;
