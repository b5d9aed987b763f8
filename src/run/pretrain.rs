//! Pretraining runs: text in, a model and its evaluation out.

use std::collections::BTreeMap;
use std::path::Path;

use super::fit::Place;
use super::folder::{RunFolder, Start};
use super::load::on;
use super::measure::{continuations, text_bytes};
use super::options::{Options, with_resume_hint};
use super::report::{Report, Training};
use super::text;
use crate::context::Context;
use crate::data::{Corpus, Split, Tokenizer, read_documents};
use crate::disk::make_folder;
use crate::error::{Error, Result};
use crate::eval::{EvalConfig, evaluate};
use crate::hub::{About, StoredType, export_stack};
use crate::model::TransformerConfig;
use crate::pretrain::{LanguageModeling, TokenizerConfig, initial_tensors};
use crate::recipe::{PretrainPlan, Recipe, Settings};
use crate::train::{Objective, Summary, Trainer, Validate};

/// Most tokens of a validation during training: enough to see the trend.
const VALIDATION_TOKENS: usize = 8192;

/// Carries out a recipe of pretraining: text in, `model/` and `eval.json` out.
///
/// # Errors
/// The recipe or the text do not fit, the folder is in use, the disk is full, or the user
/// stopped it.
pub fn pretrain(recipe: Recipe, options: &Options) -> Result<Report> {
    let start = Start::of(&options.out);
    carry_out(recipe, options).map_err(|error| start.undo(with_resume_hint(error)))
}

fn carry_out(recipe: Recipe, options: &Options) -> Result<Report> {
    PretrainPlan::resolve(&recipe)?;
    let folder = RunFolder::claim(&options.out, options.existing, recipe.train.steps)?;
    folder.note_finished(&options.context);
    let plan = PretrainPlan::resolve(&folder.continued(recipe)?)?;
    folder.record(&plan.to_recipe())?;
    let (context, settings) = (&options.context, &plan.settings);
    let tokenizer = tokenizer(&plan, &folder, options)?;
    let corpus = Corpus::open(&settings.data, Path::new(""), &tokenizer, context)?;
    let test = text::held_out(&corpus, Split::Test, &settings.eval)?;
    options.check_cancelled("the first step")?;
    let config = plan.model.transformer(tokenizer.vocabulary(), tokenizer.special())?;
    refuse_long_windows(&config, settings)?;
    let start = on(&initial_tensors(&config, settings.seed)?, context.device())?;
    let objective = LanguageModeling::new(&config, &start)?;
    drop(start);
    let count = objective.params().count(|_| true) as f64 / 1e6;
    context.note(&format!(
        "model: {} layers of width {}, {count:.2} M parameters",
        config.layers, config.width
    ));
    let (out, place) = folder.into_place();
    let (_lock, summary) = train(&objective, settings, &corpus, place, context)?;
    let trained = objective.model();
    let evaluation = evaluate(trained, None, &test, &settings.eval, context)?
        .with_text_bytes(text_bytes(&test, &tokenizer)?);
    let samples = continuations(&settings.generate, &tokenizer, trained, None, context)?;
    options.check_cancelled("the model was exported")?;
    let report = Report {
        name: settings.name.clone(),
        seed: settings.seed,
        teacher_source: None,
        teacher_fingerprint: None,
        provenance: Some(options.provenance.clone()),
        training: Training::from(&summary),
        evaluation,
        untrained: None,
        samples,
    };
    context.note("exporting the model");
    export_stack(
        &out.join("model"),
        &config,
        &objective.params().tensors(),
        Some(&tokenizer),
        &report.card(&plan.to_recipe(), &About::default())?,
        StoredType::F32,
    )?;
    report.write(&out.join("eval.json"))?;
    Ok(report)
}

/// A model is not trained on windows longer than the context length it is given.
fn refuse_long_windows(config: &TransformerConfig, settings: &Settings) -> Result<()> {
    let (context, window) = (config.max_positions, settings.data.window_tokens);
    if window <= context || settings.data.beyond_context {
        return Ok(());
    }
    Err(Error::input(format!(
        "windows of {window} tokens are longer than the model's context of {context}"
    ))
    .at("data.window_tokens")
    .hint("shorten them, or raise model.max_positions"))
}

/// The tokenizer of the recipe; one that is trained is trained once and stored in the folder.
fn tokenizer(plan: &PretrainPlan, folder: &RunFolder, options: &Options) -> Result<Tokenizer> {
    let vocabulary = match &plan.tokenizer {
        TokenizerConfig::File { path } => return Tokenizer::from_file(Path::new(path)),
        TokenizerConfig::Bpe { vocabulary } => *vocabulary,
    };
    let stored = folder.file("tokenizer");
    let file = stored.join("tokenizer.json");
    if file.exists() {
        return Tokenizer::from_file(&file);
    }
    options.context.note(&format!("learning a vocabulary of {vocabulary} tokens"));
    let data = &plan.settings.data;
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
    settings: &'t Settings,
    corpus: &Corpus,
    mut place: Place,
    context: &Context,
) -> Result<(Trainer<'t>, Summary)> {
    let train = &settings.train;
    let batches = text::training_windows(corpus, train.batch_rows, settings.seed)?;
    let config = EvalConfig {
        max_tokens: settings.eval.max_tokens.min(VALIDATION_TOKENS),
        bootstrap_samples: 0,
        ..settings.eval.clone()
    };
    let windows = text::validation(corpus, train.validate_every_steps, &config, context)?;
    let mut measure = |_step: u64| {
        let model = objective.model();
        let evaluation = evaluate(model, None, &windows, &config, context)?;
        Ok(BTreeMap::from([
            ("perplexity".to_owned(), evaluation.teacher.perplexity),
            ("nll_nats".to_owned(), evaluation.teacher.nll_nats),
        ]))
    };
    let mut trainer = place.trainer(train, settings.seed, context);
    let validate = (!windows.is_empty()).then_some(&mut measure as Validate);
    let summary = trainer.fit(objective, &batches, place.resume, validate)?;
    trainer.use_ema(objective.params())?;
    Ok((trainer, summary))
}
