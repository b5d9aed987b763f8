//! Golden losses: the loss and the gradient norm of the first steps of every shipped recipe and of
//! every objective, held against the numbers in `tests/fixtures/golden/`.
//!
//! A change that is not meant to change numbers leaves these files as they are. On a machine like
//! the one named in the head of a file every number is compared to the bit; on any other within
//! [`LOSS_TOLERANCE`] and [`NORM_TOLERANCE`], for products and sums there run in another order.
//!
//! To record the files again, after a change that is meant to change numbers (the commit gives the
//! reason):
//!
//! ```text
//! FACTOREXE_GOLDEN=write cargo test --release --test main golden
//! ```

mod compare;
mod objectives;
mod program;
mod recipes;
mod studies;

use compare::check;
use program::Bench;

/// Steps of each training.
const STEPS: u64 = 20;

#[test]
fn shipped_recipes_train_as_they_did() {
    check("recipes", &recipes::trajectories(&Bench::new()));
}

#[test]
fn objectives_train_as_they_did() {
    check("objectives", &objectives::trajectories(&Bench::new()));
}

#[test]
fn studies_train_as_they_did() {
    check("studies", &studies::trajectories(&Bench::new()));
}
