//! How does a model go on?

use std::io::Read;
use std::path::Path;

use serde_json::json;

use super::args::GenerateArgs;
use super::depth::reading;
use super::{Session, output};
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::generate::{Continuation, GenerateConfig, Generator, Speculation};
use crate::run::Loaded;

pub(super) fn generate(args: &GenerateArgs, session: &Session) -> Result<()> {
    let mut config = GenerateConfig {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        stop: args.stop.clone(),
        repetitions: args.repetitions,
    };
    config.validate()?;
    let prompts = match &args.prompts {
        Some(file) => prompts(file)?,
        None => vec![prompt(args.prompt.as_deref().unwrap_or_default())?],
    };
    let context = &session.context;
    let loaded = Loaded::read(&args.model, &session.context)?;
    let tokenizer = loaded.tokenizer()?;
    let speculation =
        args.speculate.map(|repetitions| Speculation { repetitions, tokens: args.draft_tokens });
    let (read, repetitions) = reading(&args.depth, &loaded, args.repetitions, speculation)?;
    config.repetitions = repetitions;
    let prompts = prompts
        .into_iter()
        .map(|prompt| if args.chat { in_template(tokenizer, prompt) } else { Ok(prompt) })
        .collect::<Result<Vec<_>>>()?;
    let generator = Generator::reading(loaded.model.lm(), tokenizer, &config, read)?;
    let mut failed = None;
    let streams = !session.json && prompts.len() == 1;
    let read: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let written = generator.generate_all(&read, &mut |_, piece| {
        if streams {
            failed = output::write(piece).err();
        }
        failed.is_none() && !context.is_cancelled()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if session.json {
        let all: Vec<_> = prompts.iter().zip(&written).map(|(p, w)| entry(p, w)).collect();
        return output::json(&all);
    }
    if streams {
        return output::line("");
    }
    written.iter().try_for_each(|written| output::line(&written.text))
}

fn in_template(tokenizer: &Tokenizer, prompt: String) -> Result<String> {
    tokenizer.chat_prompt(&[("user".to_owned(), prompt)])
}

fn entry(prompt: &str, written: &Continuation) -> serde_json::Value {
    let tokens = written.tokens.len();
    let mut entry = json!({
        "prompt": prompt,
        "text": written.text,
        "ids": written.tokens,
        "repetitions": written.repetitions,
        "computed_repetitions": written.computed,
        "tokens_per_s": tokens as f64 / written.seconds.max(1e-9),
        "repeated_phrases": written.repeated_phrases(),
        "end": format!("{:?}", written.end),
    });
    if written.drafted[0] > 0 {
        entry["drafted"] = json!(written.drafted[0]);
        entry["kept"] = json!(written.drafted[1]);
    }
    entry
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

/// One prompt a line.
fn prompts(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::io("reading the prompts", file, &error))?;
    let prompts: Vec<String> = text.lines().map(str::to_owned).collect();
    if prompts.is_empty() {
        return Err(Error::input("there are no prompts, expected one a line").at(file.display()));
    }
    Ok(prompts)
}
