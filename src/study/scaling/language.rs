//! Training of a looped language model without a teacher.

use std::path::Path;

use crate::data::windows::Spread;
use crate::data::{Corpus, DataConfig, Split, SplitConfig, Tokenizer};
use crate::error::Result;
use crate::eval::{EvalConfig, evaluate};
use crate::model::{Injection, LoopedConfig, Relaxation, StateNorm};
use crate::pretrain::{LanguageModeling, initial_looped_tensors};
use crate::study::sweep::job::{LanguageJob, LanguageModelScore};
use crate::study::sweep::work::Work;

pub(crate) fn learn(job: &LanguageJob, work: &Work) -> Result<LanguageModelScore> {
    let tokenizer = Tokenizer::from_file(&Path::new(&job.tokenizer).join("tokenizer.json"))?;
    let data = DataConfig {
        files: job.files.clone(),
        window_tokens: job.window_tokens,
        validation: SplitConfig::Fraction(0.0),
        test: SplitConfig::Files(job.test.clone()),
        ..DataConfig::default()
    };
    let context = work.context();
    let corpus = Corpus::open(&data, Path::new(""), &tokenizer, context)?;
    let base = job.model.transformer(tokenizer.vocabulary(), tokenizer.special())?;
    let config = LoopedConfig {
        base,
        prelude_layers: job.outer_layers,
        core_layers: job.model.layers - 2 * job.outer_layers,
        repetitions: job.repetitions,
        coda_layers: job.outer_layers,
        relaxation: Relaxation::None,
        injection: Injection::None,
        state_norm: StateNorm::None,
        gate: None,
    };
    let start = initial_looped_tensors(&config, job.seed)?;
    let objective = LanguageModeling::looped(&config, &start)?;
    let rows = job.train.batch_rows;
    let batches = corpus.split(Split::Train).windows(job.window_tokens, rows, job.seed)?;
    let summary = work.fit(&objective, &batches, &job.train.train(), job.seed, None)?;
    let windows = corpus.split(Split::Test).evaluation_windows(
        job.window_tokens,
        job.test_tokens,
        Spread::EvenOverDocuments,
    );
    let how = EvalConfig {
        window_tokens: job.window_tokens,
        max_tokens: job.test_tokens,
        repetitions: (1..=2 * job.repetitions).collect(),
        bootstrap_samples: 0,
        ..EvalConfig::default()
    };
    let model = objective.model();
    let found = evaluate(model, Some(model), &windows, &how, context)?;
    let layer = config.base.layer_parameters() as f64;
    Ok(LanguageModelScore {
        n_once: layer * (2 * job.outer_layers) as f64,
        n_rec: layer * config.core_layers as f64,
        repetitions: job.repetitions as f64,
        tokens: summary.tokens as f64,
        loss: found.teacher.nll_nats,
        by_repetition: found.student.iter().map(|one| (one.repetitions, one.nll_nats)).collect(),
    })
}
