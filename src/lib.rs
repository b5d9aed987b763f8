//! Factor the computation of a deep transformer into a small block applied again and again.
//!
//! A deep transformer thinks layer by layer. `FactorExe` takes such a *teacher*, cuts it into a
//! *prelude*, a *core* of K layers that is applied N times, and a *coda*, and distils the teacher
//! into that *student*, state by state. What comes out is small, and can be asked for any number
//! of repetitions.
//!
//! # Floors
//!
//! Imports only fall; `tests/architecture.rs` holds it.
//!
//! ```text
//! 12  main
//! 11  cli
//! 9   study  report
//! 8   run
//! 7   recipe  bench
//! 6   eval  generate
//! 5   distill  pretrain  hub  decode
//! 4   model  train  losses
//! 3   nn
//! 2   autograd  data
//! 1   kernels  halting  fit  disk
//! 0   error  observe
//! ```
//!
//! # Letters of the shapes
//!
//! B batch, T tokens, D width, H query heads, K core layers, N repetitions, L teacher layers,
//! V vocabulary.
//!
//! # What lives where
//!
//! | room | its question |
//! | --- | --- |
//! | [`kernels`] | loops over plain slices of numbers on the CPU: products, sums, weights of few bits |
//! | [`autograd`] | a tape of explicit backward steps, and the parameters; nothing is recorded for what is frozen |
//! | [`nn`] | layers on the tape: fused on the CPU, composed of candle's operations elsewhere |
//! | [`losses`] | how far a student is from its targets, with the gradients |
//! | [`disk`] | files that are there whole or not at all, locked while in use, mapped when large |
//! | [`data`] | text to tokens to batches: batch `i` is a function of the seed and `i` alone, so a resumed run reads what an uninterrupted one reads |
//! | [`train`] | the one trainer: an [`train::Objective`] gives loss and gradients, the rest is its |
//! | [`halting`] | when a token is done: policies, gates, thresholds; plain numbers, no tensors |
//! | [`model`] | teacher and student, built of one [`nn::Block`]; which layer imitates which |
//! | [`decode`] | new tokens, each read as deeply as it needs, with a cache by layer and repetition |
//! | [`hub`] | checkpoints in (folders, Hub, GGUF) and out (factorized, unrolled); one table a family |
//! | [`distill`] | where a student starts, what it minimises, and what is kept of its teacher |
//! | [`pretrain`] | the objective of `pretrain` |
//! | [`eval`], [`generate`] | how good it is, and what it writes |
//! | [`mod@bench`] | how fast it is on this machine |
//! | [`recipe`], [`run`] | an experiment as written, and as carried out |
//! | [`fit`] | which law do measurements follow? plain numbers |
//! | [`report`] | a page of what is on disk |
//! | [`study`] | many of them: which laws does a factored computation keep? |
//!
//! A name on disk and in memory is one and the same: `layers.3.attention.q.weight` of a teacher,
//! `core.0.attention.q.weight` of a student, `core.0.attention.q.lora.2.a` of its third repetition.

pub mod autograd;
pub mod bench;
pub mod data;
pub mod decode;
pub mod disk;
pub mod distill;
pub mod error;
pub mod eval;
pub mod fit;
pub mod generate;
pub mod halting;
pub mod hub;
pub mod kernels;
pub mod losses;
pub mod model;
pub mod nn;
pub mod observe;
pub mod pretrain;
pub mod recipe;
pub mod report;
pub mod run;
pub mod study;
pub mod train;

#[cfg(feature = "cli")]
pub mod cli;

pub use error::{Error, Result};

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
