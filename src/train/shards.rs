//! How do several cores work on one batch without waiting for each other?
//!
//! Rows of a batch do not see each other, so each lane takes some of them all the way, forward and
//! back, and the cores meet once a step instead of once an operation. How many lanes there are
//! depends on the batch and the model and not on the number of threads, so neither does any sum.

use rayon::prelude::*;

use super::objective::{Loss, Objective, StepContext};
use crate::autograd::Params;
use crate::data::Batch;
use crate::error::Result;
use crate::kernels::loops::{single_threaded, threads};

/// Tokens a lane has at least: products of fewer rows are mostly spent on rearranging the weights.
const LANE_TOKENS: usize = 512;

/// Numbers all lanes but the first may hold for gradients of their own: 256 MiB.
const SPARE_NUMBERS: usize = 1 << 26;

/// The lanes of a batch: the most that divide its rows equally and keep within both bounds.
fn count(batch: &Batch, params: &Params) -> usize {
    let on_cpu = params.trainable().all(|(_, var)| var.device().is_cpu());
    let numbers: usize = params.trainable().map(|(_, var)| var.elem_count()).sum();
    let most = if on_cpu { batch.tokens() / LANE_TOKENS } else { 1 };
    let most = most.min(1 + SPARE_NUMBERS / numbers.max(1)).clamp(1, batch.rows.max(1));
    (1..=most).rev().find(|lanes| batch.rows.is_multiple_of(*lanes)).unwrap_or(1)
}

/// Loss and gradients of each lane of a micro-batch, in order; their mean is the micro-batch's.
/// Every lane draws the same random numbers.
///
/// # Errors
/// A lane fails.
pub fn in_shards(
    objective: &dyn Objective,
    batch: &Batch,
    moment: &StepContext,
) -> Result<Vec<Loss>> {
    let lanes = count(batch, objective.params());
    let loss = |part: &Batch| objective.loss(part, &mut moment.clone());
    if lanes == 1 {
        return Ok(vec![loss(batch)?]);
    }
    let busy = lanes.is_multiple_of(threads());
    let lane = |part: &Batch| if busy { single_threaded(|| loss(part)) } else { loss(part) };
    batch.parts(lanes).par_iter().with_max_len(1).map(lane).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    fn lanes(rows: usize, columns: usize, numbers: usize) -> usize {
        let tokens = vec![0; rows * columns];
        let inputs = tokens.clone();
        let batch = Batch { inputs, targets: tokens, rows, columns, ..Batch::default() };
        let mut params = Params::new();
        let values = Tensor::zeros(numbers, DType::F32, &Device::Cpu).unwrap();
        params.insert("w", &values, true).unwrap();
        count(&batch, &params)
    }

    #[test]
    fn a_lane_has_enough_tokens_and_an_equal_share_of_the_rows() {
        assert_eq!(lanes(1, 4096, 10), 1);
        assert_eq!(lanes(16, 128, 10), 4);
        assert_eq!(lanes(6, 512, 10), 6);
        assert_eq!(lanes(7, 128, 10), 1);
        assert_eq!(lanes(10, 256, 10), 5);
    }

    #[test]
    fn a_large_model_has_fewer_lanes() {
        assert_eq!(lanes(8, 512, SPARE_NUMBERS / 2), 2);
    }
}
