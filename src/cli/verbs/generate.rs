//! `generate`: continues prompts.

use std::path::Path;

use serde_json::json;

use crate::cli::args::generate::GenerateArgs;
use crate::cli::output;
use crate::cli::prompt::prompt;
use crate::cli::session::Session;
use crate::cli::verbs::depth::{Reading, reading};
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::generate::{Continuation, End, GenerateConfig, Generator, Speculation};
use crate::run::Loaded;

pub(crate) fn generate(args: &GenerateArgs, session: &Session) -> Result<()> {
    let mut config = config(args)?;
    let prompts = match &args.prompts {
        Some(file) => prompts(file)?,
        None => vec![prompt(args.prompt.as_deref().unwrap_or_default())?],
    };
    let context = &session.context;
    let loaded = Loaded::read(&args.model, &session.context)?;
    let tokenizer = loaded.tokenizer()?;
    let speculation =
        args.speculate.map(|repetitions| Speculation { repetitions, tokens: args.draft_tokens });
    let Reading { config: read, repetitions, policy } =
        reading(&args.depth, &loaded, args.repetitions, speculation)?;
    config.repetitions = repetitions;
    let given = prompts
        .iter()
        .map(|prompt| if args.chat { in_template(tokenizer, prompt) } else { Ok(prompt.clone()) });
    let given = given.collect::<Result<Vec<_>>>()?;
    if tokenizer.special().chat_template.is_some() && !args.chat {
        context.note("this model has a chat template: --chat puts the prompt into it");
    }
    note_untrained_positions(&loaded, &given, args.max_tokens, session)?;
    let generator = Generator::reading(loaded.model.lm(), tokenizer, &config, read)?;
    let mut failed = None;
    let streams = !session.json && prompts.len() == 1;
    let texts: Vec<&str> = given.iter().map(String::as_str).collect();
    let written = generator.generate_all(&texts, &mut |_, piece| {
        if streams {
            failed = output::write(piece).err();
        }
        failed.is_none() && !context.is_cancelled()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if session.json {
        let all: Vec<_> = given.iter().zip(&written).map(|(p, w)| entry(p, w)).collect();
        return output::json(&all);
    }
    if streams {
        output::line("")?;
    } else {
        show(&prompts, &written)?;
    }
    if written.iter().any(|written| written.tokens.is_empty() && written.end == End::Model) {
        context.note("a continuation is empty: the model ended the text at once");
    }
    if let Some((policy, threshold)) = policy {
        let most = repetitions.unwrap_or(loaded.model.lm().repetitions());
        let mean = mean_repetitions(&written);
        context.note(&format!(
            "{mean:.2} repetitions per token on average, of at most {most} (policy {policy}, \
             threshold {threshold:.4})"
        ));
    }
    Ok(())
}

/// How texts are continued, by the flags; flags that would change nothing are refused.
fn config(args: &GenerateArgs) -> Result<GenerateConfig> {
    let config = GenerateConfig {
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
    let drawing = [
        ("--top-k", args.top_k.is_some()),
        ("--top-p", args.top_p.is_some()),
        ("--min-p", args.min_p.is_some()),
    ];
    match drawing.iter().find(|(_, given)| *given).filter(|_| args.temperature == 0.0) {
        None => Ok(config),
        Some((flag, _)) => Err(Error::usage(format!(
            "{flag} changes nothing at temperature 0, which takes the likeliest token"
        ))
        .hint("add --temperature 0.8, or leave the flag out")),
    }
}

/// Notes that a text grows past the windows that the model was trained on.
fn note_untrained_positions(
    loaded: &Loaded,
    prompts: &[String],
    max_tokens: usize,
    session: &Session,
) -> Result<()> {
    let Some(trained) = loaded.checkpoint.about.trained_window_tokens else { return Ok(()) };
    let tokenizer = loaded.tokenizer()?;
    let lengths = prompts.iter().map(|prompt| Ok(tokenizer.encode(prompt)?.len()));
    let longest = lengths.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0);
    if longest + max_tokens > trained {
        session.context.note(&format!(
            "up to {} tokens: this model was trained on windows of {trained}",
            longest + max_tokens
        ));
    }
    Ok(())
}

/// The prompt in the model's chat template.
fn in_template(tokenizer: &Tokenizer, prompt: &str) -> Result<String> {
    tokenizer.chat_prompt(&[("user".to_owned(), prompt.to_owned())])
}

/// Several continuations: each under its prompt, with a blank line between two.
fn show(prompts: &[String], written: &[Continuation]) -> Result<()> {
    for (index, (prompt, written)) in prompts.iter().zip(written).enumerate() {
        let gap = if index > 0 { "\n" } else { "" };
        output::line(&format!("{gap}[{}] {prompt}", index + 1))?;
        output::line(&written.text)?;
    }
    Ok(())
}

/// Of all tokens that were written.
fn mean_repetitions(written: &[Continuation]) -> f64 {
    let all = written.iter().flat_map(|written| &written.repetitions);
    let (sum, count) = all.fold((0, 0), |(sum, count), one| (sum + one, count + 1));
    sum as f64 / f64::from(count.max(1))
}

fn entry(prompt: &str, written: &Continuation) -> serde_json::Value {
    let tokens = written.tokens.len();
    let mut entry = json!({
        "prompt": prompt,
        "text": written.text,
        "ids": written.tokens,
        "repetitions": written.repetitions,
        "mean_repetitions": mean_repetitions(std::slice::from_ref(written)),
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

/// One prompt a line; blank lines are none.
fn prompts(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::io("reading the prompts", file, &error))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let prompts: Vec<String> = lines.map(str::to_owned).collect();
    if prompts.is_empty() {
        return Err(Error::input("there are no prompts, expected one a line").at(file.display()));
    }
    Ok(prompts)
}
