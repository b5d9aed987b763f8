//! `tokenize`: the tokens of a text, or how many tokens files hold.

use std::path::Path;

use serde_json::json;

use crate::cli::args::start::TokenizeArgs;
use crate::cli::output;
use crate::cli::prompt::prompt;
use crate::cli::session::Session;
use crate::data::{Documents, Tokenizer, read_documents};
use crate::error::Result;
use crate::run::Loaded;

pub(crate) fn tokenize(args: &TokenizeArgs, session: &Session) -> Result<()> {
    let loaded = Loaded::read(&args.model, &session.context)?;
    let tokenizer = loaded.tokenizer()?;
    match &args.prompt {
        Some(given) => {
            let text = prompt(given)?;
            let text =
                if args.chat { tokenizer.chat_prompt(&[("user".to_owned(), text)])? } else { text };
            tokens(&text, tokenizer, session)
        }
        None => count(args, tokenizer, session),
    }
}

/// Every token of `text`: its number, and what it is decoded to.
fn tokens(text: &str, tokenizer: &Tokenizer, session: &Session) -> Result<()> {
    let ids = tokenizer.encode(text)?;
    let pieces = ids.iter().map(|&id| tokenizer.decode(&[id])).collect::<Result<Vec<_>>>()?;
    if session.json {
        return output::json(&json!({ "text": text, "ids": ids, "pieces": pieces }));
    }
    let mut rows = vec![vec!["piece".to_owned(), "id".to_owned()]];
    rows.extend(
        ids.iter().zip(&pieces).map(|(id, piece)| vec![format!("{piece:?}"), id.to_string()]),
    );
    output::table(&rows)
}

/// How much text the files hold, in documents, bytes and tokens.
fn count(args: &TokenizeArgs, tokenizer: &Tokenizer, session: &Session) -> Result<()> {
    let documents = read_documents(&args.text, Path::new(""), &args.field)?;
    let tokens = Documents::encode(&documents, tokenizer)?.tokens();
    let bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    let bytes_per_token = bytes as f64 / tokens.max(1) as f64;
    if session.json {
        return output::json(&json!({
            "documents": documents.len(),
            "bytes": bytes,
            "tokens": tokens,
            "bytes_per_token": bytes_per_token,
            "vocabulary": tokenizer.vocabulary(),
        }));
    }
    let row = [
        ("documents", documents.len().to_string()),
        ("bytes", bytes.to_string()),
        ("tokens", tokens.to_string()),
        ("bytes per token", format!("{bytes_per_token:.2}")),
        ("vocabulary", tokenizer.vocabulary().to_string()),
    ];
    let (head, row) = row.into_iter().map(|(name, value)| (name.to_owned(), value)).unzip();
    output::table(&[head, row])
}
