//! Data parallelism on the CPU: a micro-batch is split by rows into shards.
//!
//! Rows of a batch are independent, so each shard runs forward and backward on its own, and threads
//! synchronise once a step instead of once an operation. The number of shards depends on the batch
//! and the model but not on the number of threads, and so does the order of every sum.

use rayon::prelude::*;

use super::objective::{Loss, Objective, StepContext};
use crate::autograd::Params;
use crate::data::Batch;
use crate::error::Result;
use crate::kernels::loops::{single_threaded, threads};

/// Fewest tokens of a shard: smaller matrix products spend most of their time packing the weights.
const SHARD_TOKENS: usize = 512;

/// Most gradient elements that all shards but the first may hold together: 256 MiB of f32.
const SPARE_GRADIENTS: usize = 1 << 26;

/// The number of shards: the largest that divides the rows equally and keeps within both bounds.
fn shard_count(batch: &Batch, params: &Params) -> usize {
    let on_cpu = params.trainable().all(|(_, var)| var.device().is_cpu());
    let elements: usize = params.trainable().map(|(_, var)| var.elem_count()).sum();
    let most = if on_cpu { batch.tokens() / SHARD_TOKENS } else { 1 };
    let most = most.min(1 + SPARE_GRADIENTS / elements.max(1)).clamp(1, batch.rows.max(1));
    (1..=most).rev().find(|shards| batch.rows.is_multiple_of(*shards)).unwrap_or(1)
}

/// Loss and gradients of each shard of a micro-batch, in order; their mean is the micro-batch's.
/// Every shard uses the same random numbers.
///
/// # Errors
/// The objective fails on a shard.
pub fn in_shards(
    objective: &dyn Objective,
    batch: &Batch,
    context: &StepContext,
) -> Result<Vec<Loss>> {
    let shards = shard_count(batch, objective.params());
    let loss = |part: &Batch| objective.loss(part, &mut context.clone());
    if shards == 1 {
        return Ok(vec![loss(batch)?]);
    }
    let every_thread_busy = shards.is_multiple_of(threads());
    let shard_loss =
        |part: &Batch| if every_thread_busy { single_threaded(|| loss(part)) } else { loss(part) };
    batch.parts(shards).par_iter().with_max_len(1).map(shard_loss).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    fn shards(rows: usize, columns: usize, elements: usize) -> usize {
        let tokens = vec![0; rows * columns];
        let inputs = tokens.clone();
        let batch = Batch { inputs, targets: tokens, rows, columns, ..Batch::default() };
        let mut params = Params::new();
        let values = Tensor::zeros(elements, DType::F32, &Device::Cpu).unwrap();
        params.insert("w", &values, true).unwrap();
        shard_count(&batch, &params)
    }

    #[test]
    fn a_shard_has_enough_tokens_and_an_equal_share_of_the_rows() {
        assert_eq!(shards(1, 4096, 10), 1);
        assert_eq!(shards(16, 128, 10), 4);
        assert_eq!(shards(6, 512, 10), 6);
        assert_eq!(shards(7, 128, 10), 1);
        assert_eq!(shards(10, 256, 10), 5);
    }

    #[test]
    fn a_large_model_has_fewer_shards() {
        assert_eq!(shards(8, 512, SPARE_GRADIENTS / 2), 2);
    }
}
