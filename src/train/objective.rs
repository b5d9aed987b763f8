//! What does a training step make smaller?

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::autograd::{Gradients, Params};
use crate::data::Batch;
use crate::error::Result;

/// The moment of training an objective is asked at.
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
    /// The moment of micro-batch `micro` of step `step` in a run of `steps` steps from `seed`.
    #[must_use]
    pub fn new(seed: u64, step: u64, steps: u64, micro: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("factorexe train moment 1");
        for part in [seed, step, micro] {
            hasher.update(&part.to_le_bytes());
        }
        Self { step, steps, rng: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()) }
    }
}

/// What one micro-batch gave.
#[derive(Debug)]
pub struct Loss {
    /// The number that is minimised.
    pub total: f64,
    /// Its parts by name, unweighted, for the metrics.
    pub terms: BTreeMap<String, f64>,
    /// The gradient of `total` for every trainable parameter it depends on; may be empty when
    /// `total` is not finite, for then the trainer skips the step.
    pub gradients: Gradients,
    /// This phase trains a part of the model: a parameter without gradient is no surprise.
    pub partial: bool,
}

/// Something to train: pretraining, distillation and all that comes later. Rows of a batch are
/// independent of each other: a batch may be asked for in parts, side by side.
pub trait Objective: Sync {
    /// The parameters, trainable and frozen.
    fn params(&self) -> &Params;

    /// Loss and gradients of one micro-batch. A trainable parameter without a gradient is left
    /// alone in that step: a phase may train a part of the model.
    ///
    /// # Errors
    /// The batch does not fit the model, or the device fails.
    fn loss(&self, batch: &Batch, moment: &mut StepContext) -> Result<Loss>;
}
