//! Measurements at the end of a run: the evaluation and the samples.

use super::options::Options;
use super::report::Sample;
use crate::data::{EvaluationWindow, Tokenizer};
use crate::error::Result;
use crate::eval::{EvalConfig, Evaluation};
use crate::generate::{GenerateConfig, Generator};
use crate::model::{CausalLm, LoopedTransformer};
use crate::observe::Observer;
use crate::recipe::SamplesConfig;
use crate::train::Interrupt;

/// Compares a student with its teacher, or measures a model alone.
///
/// # Errors
/// There is no text, the models do not fit each other, or the user stopped it.
pub fn evaluate(
    teacher: &dyn CausalLm,
    student: Option<&LoopedTransformer>,
    windows: &[EvaluationWindow],
    config: &EvalConfig,
    observer: &dyn Observer,
    interrupt: &Interrupt,
) -> Result<Evaluation> {
    crate::eval::evaluate(teacher, student, windows, config, observer, &|| interrupt.is_set())
}

/// The greedy continuation of each prompt by both models.
///
/// # Errors
/// A prompt is longer than the model reads, or the device fails.
pub fn continuations(
    config: &SamplesConfig,
    tokenizer: &Tokenizer,
    teacher: &dyn CausalLm,
    student: Option<&LoopedTransformer>,
    options: &Options,
) -> Result<Vec<Sample>> {
    let how = GenerateConfig { max_tokens: config.max_tokens, ..GenerateConfig::default() };
    let write = |model: &dyn CausalLm, prompt: &str| {
        Ok::<_, crate::Error>(
            Generator::new(model, tokenizer, &how)?
                .generate(prompt, &mut |_| !options.interrupt.is_set())?
                .text,
        )
    };
    let observer = options.observer;
    observer.begin("generate", config.prompts.len() as u64, "prompts");
    let samples = config.prompts.iter().enumerate().map(|(index, prompt)| {
        let sample = Sample {
            prompt: prompt.clone(),
            teacher: write(teacher, prompt)?,
            student: student.map(|student| write(student, prompt)).transpose()?,
        };
        observer.advance(index as u64 + 1, "");
        Ok(sample)
    });
    let samples = samples.collect();
    observer.end();
    samples
}
