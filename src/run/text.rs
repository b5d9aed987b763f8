//! The tokens that a run reads.

use candle_core::Tensor;

use crate::context::Context;
use crate::data::windows::Spread;
use crate::data::{Batches, Corpus, EvaluationWindow, PackedWindows, Split};
use crate::error::{Error, Result};
use crate::eval::EvalConfig;

/// Separates the seed of the calibration windows from that of the first steps.
const CALIBRATION: u64 = 0x00CA_11B8;

/// The windows of the training steps.
pub(super) fn training_windows(corpus: &Corpus, rows: usize, seed: u64) -> Result<PackedWindows> {
    corpus.split(Split::Train).windows(corpus.window_tokens(), rows, seed)
}

/// Calibration batches: at least `tokens` tokens of training text, each tensor (B, T).
pub(super) fn calibration(
    corpus: &Corpus,
    tokens: usize,
    seed: u64,
    context: &Context,
) -> Result<Vec<Tensor>> {
    let columns = corpus.window_tokens();
    let windows = tokens.div_ceil(columns).max(1);
    let rows = windows.min(4);
    let stream = corpus.split(Split::Train).windows(columns, rows, seed ^ CALIBRATION)?;
    (0..windows.div_ceil(rows) as u64)
        .map(|index| stream.batch(index)?.input_tensor(context.device()))
        .collect()
}

/// The evaluation windows of a held-out split.
pub(super) fn held_out(
    corpus: &Corpus,
    split: Split,
    config: &EvalConfig,
) -> Result<Vec<EvaluationWindow>> {
    let documents = corpus.split(split);
    let windows = documents.evaluation_windows(
        config.window_tokens,
        config.max_tokens,
        Spread::EvenOverDocuments,
    );
    if windows.is_empty() {
        return Err(Error::input(format!("there is no text in the {} split", split.name()))
            .at(format!("data.{}", split.name()))
            .hint("list files for it, or raise its fraction"));
    }
    Ok(windows)
}
