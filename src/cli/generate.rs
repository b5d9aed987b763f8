//! How does a model go on?

use std::io::Read;

use serde_json::json;

use super::args::GenerateArgs;
use super::{Session, output};
use crate::error::{Error, Result};
use crate::generate::{GenerateConfig, Generator};
use crate::run::Loaded;

pub(super) fn generate(args: &GenerateArgs, session: &Session) -> Result<()> {
    let config = GenerateConfig {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
        stop: args.stop.clone(),
        repetitions: args.repetitions,
    };
    config.validate()?;
    let prompt = prompt(&args.prompt)?;
    let (progress, interrupt) = (&session.progress, &session.interrupt);
    let loaded = Loaded::read(&args.model, &session.device, progress, interrupt)?;
    let tokenizer = loaded.tokenizer()?;
    let prompt =
        if args.chat { tokenizer.chat_prompt(&[("user".to_owned(), prompt)])? } else { prompt };
    let generator = Generator::new(loaded.model.lm(), tokenizer, &config)?;
    let mut failed = None;
    let written = generator.generate(&prompt, &mut |piece| {
        if !session.json {
            failed = output::write(piece).err();
        }
        failed.is_none() && !interrupt.is_set()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if session.json {
        let end = format!("{:?}", written.end);
        return output::json(&json!({
            "prompt": prompt, "text": written.text, "tokens": written.tokens, "end": end,
        }));
    }
    output::line("")
}

fn prompt(given: &str) -> Result<String> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::io("reading the prompt", "stdin", &error))?;
    Ok(text)
}
