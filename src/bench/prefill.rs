//! Speed of the forward pass over a prompt.

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::clock::{self, Rounds};
use super::shape::at_least_one;
use crate::autograd::Tape;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::eval::cost::{flops_per_token, peak_rss_mib};
use crate::model::CausalLm;

/// Most logits: 32 GiB.
const LARGEST: u128 = 1 << 33;

/// The measured prefill speed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrefillReport {
    /// B, rows of the batch.
    pub batch: usize,
    /// T, tokens of a row.
    pub tokens: usize,
    /// Passes timed.
    pub steps: usize,
    /// Threads of the arithmetic.
    pub threads: usize,
    /// Median wall-clock time of a pass.
    pub wall_s: f64,
    /// How the times of all of them spread.
    pub rounds: Rounds,
    /// Median processor time of a pass, over all threads; none where the system does not report it.
    pub cpu_s: Option<f64>,
    /// Tokens of a pass over `wall_s`.
    pub tokens_per_s: f64,
    /// Peak resident memory of the process; none where the system does not report it.
    pub peak_rss_mib: Option<f64>,
    /// Estimated arithmetic of a pass, in 1e9 floating point operations.
    pub gflop: f64,
}

/// Times the forward pass of a frozen model over random tokens, with the logits of every position.
///
/// # Errors
/// There is nothing to read, the device fails, or the context is cancelled.
pub fn time_prefill(
    model: &dyn CausalLm,
    batch: usize,
    tokens: usize,
    steps: usize,
    context: &Context,
) -> Result<PrefillReport> {
    for (name, count) in [("batch", batch), ("tokens", tokens), ("steps", steps)] {
        at_least_one(name, count)?;
    }
    let (base, repetitions) = (model.base(), model.repetitions());
    let logits = batch as u128 * tokens as u128 * base.vocabulary as u128;
    if logits > LARGEST {
        return Err(Error::input(format!(
            "{batch} rows of {tokens} tokens have {logits} logits, expected at most {LARGEST}"
        ))
        .hint("make --batch or --tokens smaller"));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let ids: Vec<u32> =
        (0..batch * tokens).map(|_| rng.random_range(0..base.vocabulary as u32)).collect();
    let device = model.embedding_and_head().device();
    let ids = Tensor::from_vec(ids, (batch, tokens), device)?;
    let timing = clock::time(steps, context, || {
        let last = model.states(&Tape::off(), &ids, repetitions)?.pop();
        let last = last.ok_or_else(|| Error::internal("a model without states"))?;
        let logits = model.embedding_and_head().logits(last.tensor())?;
        device.synchronize()?;
        drop(logits);
        Ok(())
    })?;
    let flops = flops_per_token(base, model.factorization(), repetitions, tokens);
    Ok(PrefillReport {
        batch,
        tokens,
        steps,
        threads: rayon::current_num_threads(),
        wall_s: timing.wall_s,
        rounds: timing.rounds,
        cpu_s: timing.cpu_s,
        tokens_per_s: (batch * tokens) as f64 / timing.wall_s,
        peak_rss_mib: peak_rss_mib(),
        gflop: flops * (batch * tokens) as f64 / 1e9,
    })
}
