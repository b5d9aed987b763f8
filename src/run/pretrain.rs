//! Pretraining runs: text in, a model and its evaluation out.

use std::collections::BTreeMap;
use std::path::Path;

use super::folder::RunFolder;
use super::load::on;
use super::measure::continuations;
use super::options::{Options, with_resume_hint};
use super::report::{Report, Training};
use super::text;
use crate::data::{Corpus, Split, Tokenizer, read_documents};
use crate::disk::make_folder;
use crate::error::{Error, Result};
use crate::eval::{EvalConfig, evaluate};
use crate::hub::{StoredType, export_stack};
use crate::pretrain::{LanguageModeling, TokenizerConfig, initial_tensors};
use crate::recipe::Recipe;
use crate::train::{Objective, Summary, Trainer};

/// Most tokens of a validation during training: enough to see the trend.
const VALIDATION_TOKENS: usize = 8192;

/// Carries out a recipe of pretraining: text in, `model/` and `eval.json` out.
///
/// # Errors
/// The recipe or the text do not fit, the folder is in use, the disk is full, or the user
/// stopped it.
pub fn pretrain(recipe: Recipe, options: &Options) -> Result<Report> {
    carry_out(recipe, options).map_err(with_resume_hint)
}

fn carry_out(mut recipe: Recipe, options: &Options) -> Result<Report> {
    let model = recipe.model.clone().ok_or_else(|| {
        Error::input("this recipe has no [model] to train")
            .hint("`factorize distill` carries out recipes of distillation")
    })?;
    let folder = RunFolder::claim(&options.out, options.existing, &mut recipe)?;
    let tokenizer = tokenizer(&recipe, &folder, options)?;
    let corpus = text::corpus(&recipe.data, &tokenizer, options)?;
    let test = text::held_out(&corpus, Split::Test, &recipe.eval)?;
    options.check_cancelled("the first step")?;
    let config = model.transformer(tokenizer.vocabulary(), tokenizer.special())?;
    let start = on(&initial_tensors(&config, recipe.seed)?, options.context.device())?;
    let objective = LanguageModeling::new(&config, &start)?;
    drop(start);
    let count = objective.params().count(|_| true) as f64 / 1e6;
    options.context.note(&format!(
        "model: {} layers of width {}, {count:.2} M parameters",
        config.layers, config.width
    ));
    let out = folder.path.clone();
    let (_lock, summary) = train(&objective, &recipe, &corpus, folder, options)?;
    let trained = objective.model();
    let context = &options.context;
    let evaluation = evaluate(trained, None, &test, &recipe.eval, context)?;
    let samples = continuations(&recipe.generate, &tokenizer, trained, None, context)?;
    options.check_cancelled("the model was exported")?;
    let report = Report {
        name: recipe.name.clone(),
        seed: recipe.seed,
        teacher_source: None,
        teacher_fingerprint: None,
        training: Training::from(&summary),
        evaluation,
        untrained: None,
        samples,
    };
    options.context.note("exporting the model");
    export_stack(
        &out.join("model"),
        &config,
        &objective.params().tensors(),
        Some(&tokenizer),
        &report.card(&recipe)?,
        StoredType::F32,
    )?;
    report.write(&out.join("eval.json"))?;
    Ok(report)
}

/// The tokenizer of the recipe; one that is trained is trained once and stored in the folder.
fn tokenizer(recipe: &Recipe, folder: &RunFolder, options: &Options) -> Result<Tokenizer> {
    let vocabulary = match recipe.tokenizer.clone().unwrap_or_default() {
        TokenizerConfig::File { path } => return Tokenizer::from_file(Path::new(&path)),
        TokenizerConfig::Bpe { vocabulary } => vocabulary,
    };
    let stored = folder.file("tokenizer");
    let file = stored.join("tokenizer.json");
    if file.exists() {
        return Tokenizer::from_file(&file);
    }
    options.context.note(&format!("learning a vocabulary of {vocabulary} tokens"));
    let data = &recipe.data;
    let documents = read_documents(&data.files, Path::new(""), &data.field)
        .map_err(|error| error.at("data.files"))?;
    // The vocabulary is discarded when the run is stopped: missing documents do no harm.
    let texts = documents
        .into_iter()
        .map(|document| document.text)
        .take_while(|_| !options.context.is_cancelled());
    let tokenizer = Tokenizer::train_bpe(texts, vocabulary)
        .map_err(|error| error.at("[tokenizer] of the recipe"));
    options.check_cancelled("the vocabulary was learned")?;
    let tokenizer = tokenizer?;
    make_folder(&stored, |folder| tokenizer.save(folder))?;
    Ok(tokenizer)
}

/// Trains the model; the folder stays locked as long as the returned trainer lives.
fn train<'t>(
    objective: &LanguageModeling,
    recipe: &'t Recipe,
    corpus: &Corpus,
    folder: RunFolder,
    options: &Options,
) -> Result<(Trainer<'t>, Summary)> {
    let batches = text::training_windows(corpus, recipe)?;
    let config = EvalConfig {
        max_tokens: recipe.eval.max_tokens.min(VALIDATION_TOKENS),
        bootstrap_samples: 0,
        ..recipe.eval.clone()
    };
    let windows = if recipe.train.validate_every_steps > 0 {
        text::held_out(corpus, Split::Validation, &config)?
    } else {
        Vec::new()
    };
    let context = &options.context;
    let mut validate = |_step: u64| {
        let model = objective.model();
        let evaluation = evaluate(model, None, &windows, &config, context)?;
        Ok(BTreeMap::from([
            ("perplexity".to_owned(), evaluation.teacher.perplexity),
            ("nll_nats".to_owned(), evaluation.teacher.nll_nats),
        ]))
    };
    let mut trainer =
        Trainer::new(&recipe.train, recipe.seed, &folder.path, context).with_lock(folder.lock);
    let summary = trainer.fit(objective, &batches, folder.resume, Some(&mut validate))?;
    trainer.use_ema(objective.params())?;
    Ok((trainer, summary))
}
