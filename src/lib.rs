//! Factor the computation of a deep transformer into a small block applied again and again.
//!
//! A deep transformer computes layer by layer. `FactorExe` takes such a *teacher*, cuts it into a
//! *prelude*, a *core* of K layers that is applied N times, and a *coda*, and distils the teacher
//! into that *student*, layer by layer. The student is small, and can be run with any number of
//! repetitions.
//!
//! # Floors
//!
//! Imports only fall; `tests/architecture.rs` holds it.
//!
//! ```text
//! 12  main
//! 11  cli
//! 9   study  report  prelude
//! 8   run
//! 7   recipe  bench
//! 6   eval  generate
//! 5   distill  pretrain  hub  decode
//! 4   model  train  losses
//! 3   nn
//! 2   autograd  data
//! 1   kernels  halting  fit  disk  context
//! 0   error
//! ```
//!
//! # Letters of the shapes
//!
//! B batch, T tokens, D width, H query heads, K core layers, N repetitions, L teacher layers,
//! V vocabulary.
//!
//! # Modules
//!
//! | module | content |
//! | --- | --- |
//! | [`kernels`] | CPU kernels on plain slices: matrix products, sums, quantized weights |
//! | [`autograd`] | a tape of explicit backward steps, and the parameters; frozen parameters are not recorded |
//! | [`nn`] | layers on the tape: fused on the CPU, composed of candle's operations elsewhere |
//! | [`losses`] | losses with their gradients |
//! | [`disk`] | files: written atomically, locked while in use, memory-mapped when large |
//! | [`data`] | text to tokens to batches: batch `i` is a function of the seed and `i` alone, so a resumed run reads what an uninterrupted one reads |
//! | [`train`] | the trainer: an [`train::Objective`] returns loss and gradients; it does the rest |
//! | [`halting`] | halting policies, gates and thresholds; plain numbers, no tensors |
//! | [`model`] | teacher and student, built of one [`nn::Block`]; which student layer is aligned with which teacher layer |
//! | [`decode`] | decoding at a depth per token, with keys and values by layer and repetition |
//! | [`hub`] | checkpoints: read from folders, the Hub and GGUF, written factorized or unrolled; one table a model family |
//! | [`distill`] | distillation: initialisation, objective, cache of teacher outputs |
//! | [`pretrain`] | the language modeling objective |
//! | [`eval`], [`generate`] | evaluation and generation |
//! | [`mod@bench`] | timings on this machine |
//! | [`recipe`], [`run`] | experiments as written, and as carried out |
//! | [`fit`] | fits of laws to measurements; plain numbers |
//! | [`report`] | pages of the results on disk |
//! | [`study`] | sweeps of many runs: the laws of factored computation |
//!
//! # Cargo features
//!
//! | feature | content |
//! | --- | --- |
//! | `cli` | the program `factorize`; needs `lab` |
//! | `hub` | teachers by name from the Hugging Face Hub |
//! | `lab` | `bench`, `fit`, `report`, `study`: timings, fits of laws, pages with pictures, sweeps |
//! | `cuda`, `metal` | computation on a GPU |
//!
//! `cli` and `hub` are on by default. `default-features = false` leaves the library alone: no
//! network, no terminal, no drawing of pictures.
//!
//! Tensors have the same names on disk and in memory: `layers.3.attention.q.weight` of a teacher,
//! `core.0.attention.q.weight` of a student, `core.0.attention.q.lora.2.a` of its third repetition.

pub mod autograd;
#[cfg(feature = "lab")]
pub mod bench;
pub mod context;
pub mod data;
pub mod decode;
pub mod disk;
pub mod distill;
pub mod error;
pub mod eval;
#[cfg(feature = "lab")]
pub mod fit;
pub mod generate;
pub mod halting;
pub mod hub;
pub mod kernels;
pub mod losses;
pub mod model;
pub mod nn;
pub mod prelude;
pub mod pretrain;
pub mod recipe;
#[cfg(feature = "lab")]
pub mod report;
pub mod run;
#[cfg(feature = "lab")]
pub mod study;
pub mod train;

#[cfg(feature = "cli")]
pub mod cli;

pub use error::{Error, Result};

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
