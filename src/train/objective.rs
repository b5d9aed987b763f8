//! The interface between the trainer and what it trains: loss and gradients of a micro-batch.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::autograd::{Gradients, Params};
use crate::data::Batch;
use crate::error::Result;

/// The position of a micro-batch in the run, and its randomness.
#[derive(Debug, Clone)]
pub struct StepContext {
    /// Steps taken so far.
    pub step: u64,
    /// Steps in the whole run.
    pub steps: u64,
    /// Randomness of this micro-batch alone: a function of the run's seed, the step and the
    /// micro-batch, so that resuming changes nothing.
    pub rng: ChaCha8Rng,
}

impl StepContext {
    /// The context of micro-batch `micro` of step `step` in a run of `steps` steps from `seed`.
    #[must_use]
    pub fn new(seed: u64, step: u64, steps: u64, micro: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("factorexe train moment 1");
        for part in [seed, step, micro] {
            hasher.update(&part.to_le_bytes());
        }
        Self { step, steps, rng: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()) }
    }
}

/// Loss and gradients of one micro-batch.
#[derive(Debug)]
pub struct Loss {
    /// The number that is minimised.
    pub total: f64,
    /// Its terms by name, unweighted, for the metrics.
    pub terms: BTreeMap<String, f64>,
    /// The gradient of `total` for every trainable parameter it depends on. May be empty when
    /// `total` is not finite, because the trainer then skips the step.
    pub gradients: Gradients,
    /// Whether this step trains only a part of the model, so that a parameter without a gradient is
    /// expected.
    pub partial: bool,
}

/// Something to train: parameters and a loss. Rows of a batch are independent of each other, so a
/// batch may be split by rows and the parts computed in parallel.
pub trait Objective: Sync {
    /// The parameters, trainable and frozen.
    fn params(&self) -> &Params;

    /// Loss and gradients of one micro-batch. A trainable parameter without a gradient is not
    /// updated in that step.
    ///
    /// # Errors
    /// The batch does not fit the model, or the device fails.
    fn loss(&self, batch: &Batch, context: &mut StepContext) -> Result<Loss>;

    /// The phase that `step` of `steps` belongs to; `None` if training has one phase. Phases
    /// have different loss functions, so the loss may jump between them.
    fn phase(&self, _step: u64, _steps: u64) -> Option<&'static str> {
        None
    }
}
