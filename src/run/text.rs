//! The tokens that a run reads.

use candle_core::Tensor;

use super::windows::{Windows, check_windows};
use crate::context::Context;
use crate::data::windows::Spread;
use crate::data::{Batches, Corpus, EvaluationWindow, PackedWindows, Split};
use crate::error::{Error, Result};
use crate::eval::EvalConfig;
use crate::hub::Checkpoint;
use crate::recipe::Recipe;

/// Separates the seed of the calibration windows from that of the first steps.
const CALIBRATION: u64 = 0x00CA_11B8;

/// Refuses windows of a recipe that `model` cannot read.
pub(super) fn check_window_tokens(
    model: &Checkpoint,
    recipe: &Recipe,
    context: &Context,
) -> Result<()> {
    let windows = [
        (recipe.data.window_tokens, "data.window_tokens"),
        (recipe.eval.window_tokens, "eval.window_tokens"),
    ];
    windows.into_iter().try_for_each(|(tokens, key)| {
        let windows = Windows { tokens, key, override_key: "data.beyond_context = true" };
        check_windows(model, windows, recipe.data.beyond_context.into(), context)
    })
}

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

/// The windows of a validation during training, `every_steps`; none, with a warning, where the
/// validation split has no text.
pub(super) fn validation(
    corpus: &Corpus,
    every_steps: u64,
    config: &EvalConfig,
    context: &Context,
) -> Result<Vec<EvaluationWindow>> {
    if every_steps == 0 {
        return Ok(Vec::new());
    }
    if corpus.split(Split::Validation).tokens() < 2 {
        context.warn(
            "nothing is validated while training: the validation split has no text \
             (data.validation); train.validate_every_steps = 0 says that this is meant",
        );
        return Ok(Vec::new());
    }
    held_out(corpus, Split::Validation, config)
}

/// The evaluation windows of a held-out split.
///
/// # Errors
/// The split has no text.
pub fn held_out(
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
            .hint(
                "write data.split_by = \"passage\", which holds out the end of every document and \
                 works with one, list files for it, or raise its fraction",
            ));
    }
    Ok(windows)
}
