//! Measurements at the end of a run: the evaluation and the samples.

use super::report::Sample;
use crate::context::Context;
use crate::data::{EvaluationWindow, Tokenizer};
use crate::error::Result;
use crate::generate::{GenerateConfig, Generator};
use crate::model::{CausalLm, LoopedTransformer};
use crate::recipe::SamplesConfig;

/// UTF-8 bytes of the text that `windows` predict: all but the first token of each.
///
/// # Errors
/// The tokenizer's decoder fails.
pub fn text_bytes(windows: &[EvaluationWindow], tokenizer: &Tokenizer) -> Result<u64> {
    let bytes = |window: &EvaluationWindow| {
        let length = |tokens: &[u32]| Ok::<_, crate::Error>(tokenizer.decode(tokens)?.len());
        // The first token is decoded alone: what it adds to the beginning is not predicted.
        let all = length(&window.tokens)?;
        Ok(all.saturating_sub(length(&window.tokens[..1])?) as u64)
    };
    windows.iter().map(bytes).sum()
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
    context: &Context,
) -> Result<Vec<Sample>> {
    let how = GenerateConfig { max_tokens: config.max_tokens, ..GenerateConfig::default() };
    let write = |model: &dyn CausalLm, prompt: &str| {
        Ok::<_, crate::Error>(
            Generator::new(model, tokenizer, &how)?
                .generate(prompt, &mut |_| !context.is_cancelled())?
                .text,
        )
    };
    context.begin("generate", config.prompts.len() as u64, "prompts");
    let samples = config.prompts.iter().enumerate().map(|(index, prompt)| {
        let sample = Sample {
            prompt: prompt.clone(),
            teacher: write(teacher, prompt)?,
            student: student.map(|student| write(student, prompt)).transpose()?,
        };
        context.advance(index as u64 + 1, "");
        Ok(sample)
    });
    let samples = samples.collect();
    context.end();
    samples
}
