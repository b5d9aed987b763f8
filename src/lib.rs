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
//! 9  cli
//! 6  run
//! 5  recipe
//! 4  distill  lm  hub  eval  generate
//! 3  model
//! 2  train
//! 1  nn  data
//! 0  error  observe
//! ```
//!
//! # Letters of the shapes
//!
//! B batch, T tokens, D width, H query heads, K core layers, N repetitions, L teacher layers,
//! V vocabulary.

pub mod data;
pub mod distill;
pub mod error;
pub mod eval;
pub mod generate;
pub mod hub;
pub mod lm;
pub mod model;
pub mod nn;
pub mod observe;
pub mod recipe;
pub mod run;
pub mod train;

#[cfg(feature = "cli")]
pub mod cli;

pub use error::{Error, Result};
