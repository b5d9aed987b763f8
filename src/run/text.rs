//! The tokens that a run reads.

use std::path::Path;

use candle_core::Tensor;

use super::options::Options;
use crate::data::windows::Spread;
use crate::data::{Batches, Corpus, DataConfig, Encode, EvaluationWindow, PackedWindows, Split};
use crate::error::{Error, Result};
use crate::eval::EvalConfig;
use crate::recipe::Recipe;

/// Separates the seed of the calibration windows from that of the first steps.
const CALIBRATION: u64 = 0x00CA_11B8;

/// The tokenised text of a recipe.
pub(super) fn corpus(
    config: &DataConfig,
    tokenizer: &dyn Encode,
    options: &Options,
) -> Result<Corpus> {
    Corpus::open(config, Path::new(""), tokenizer, &options.context)
}

/// The windows of the training steps.
pub(super) fn training_windows(corpus: &Corpus, recipe: &Recipe) -> Result<PackedWindows> {
    let documents = corpus.split(Split::Train);
    documents.windows(recipe.data.window_tokens, recipe.train.batch_rows, recipe.seed)
}

/// Calibration batches: at least `tokens` tokens of training text, each tensor (B, T).
pub(super) fn calibration(
    corpus: &Corpus,
    recipe: &Recipe,
    tokens: usize,
    options: &Options,
) -> Result<Vec<Tensor>> {
    let columns = recipe.data.window_tokens;
    let windows = tokens.div_ceil(columns).max(1);
    let rows = windows.min(4);
    let seed = recipe.seed ^ CALIBRATION;
    let stream = corpus.split(Split::Train).windows(columns, rows, seed)?;
    (0..windows.div_ceil(rows) as u64)
        .map(|index| stream.batch(index)?.input_tensor(options.context.device()))
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
