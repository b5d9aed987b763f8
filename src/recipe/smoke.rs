//! Smoke recipes: any recipe, shrunk until it takes seconds.

use super::sections::Recipe;

/// Shrinks steps, windows and text to the least that still runs every part. A student keeps its
/// shape; a model to pretrain becomes narrow.
pub(super) fn shrink(recipe: &mut Recipe) {
    let train = &mut recipe.train;
    train.steps = train.steps.min(4);
    train.batch_rows = train.batch_rows.min(2);
    train.accumulate = train.accumulate.min(2);
    train.schedule.warmup_steps = train.schedule.warmup_steps.min(1);
    train.checkpoint_every_steps = train.checkpoint_every_steps.min(2);
    train.validate_every_steps = train.validate_every_steps.min(2);
    recipe.data.window_tokens = recipe.data.window_tokens.min(32);
    let eval = &mut recipe.eval;
    eval.window_tokens = eval.window_tokens.min(32);
    eval.max_tokens = eval.max_tokens.min(128);
    eval.bootstrap_samples = eval.bootstrap_samples.min(20);
    recipe.generate.prompts.truncate(1);
    recipe.generate.max_tokens = recipe.generate.max_tokens.min(8);
    if let Some(model) = &mut recipe.model {
        model.layers = model.layers.min(4);
        if model.width > 64 {
            (model.width, model.heads) = (64, 4);
            (model.kv_heads, model.head_width, model.mlp_width) = (None, None, None);
        }
    } else {
        let mut student = recipe.student();
        student.calibration_tokens = student.calibration_tokens.min(128);
        recipe.student = Some(student);
    }
}
