//! Special tokens: those that open and close a text, and the published files that name them.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// What a tokenizer knows beside its vocabulary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Opens a text.
    pub bos: Option<u32>,
    /// End a text; the first is the one the tokenizer itself names.
    pub eos: Vec<u32>,
    /// Fills the short rows of a batch.
    pub pad: Option<u32>,
    /// Jinja template of a conversation.
    pub chat_template: Option<String>,
    /// The model expects `bos` before every text.
    pub add_bos: bool,
}

/// The special tokens that the files beside `tokenizer.json` at `path` name.
///
/// # Errors
/// One of the files is there but is not JSON.
pub(super) fn beside(path: &Path, inner: &tokenizers::Tokenizer) -> Result<SpecialTokens> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let config = read_object(&folder.join("tokenizer_config.json"))?;
    let models = [
        read_object(&folder.join("generation_config.json"))?,
        read_object(&folder.join("config.json"))?,
    ];
    let named = |key: &str| token_text(config.get(key)?).and_then(|text| inner.token_to_id(text));
    let mut eos: Vec<u32> = named("eos_token").into_iter().collect();
    let mut bos = named("bos_token");
    for model in &models {
        for id in model.get("eos_token_id").map(token_ids).unwrap_or_default() {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
        bos = bos.or_else(|| model.get("bos_token_id").map(token_ids)?.first().copied());
    }
    let add_bos = config.get("add_bos_token").and_then(Value::as_bool);
    let add_bos = add_bos.unwrap_or_else(|| bos.is_some() && opens_with(inner) == bos);
    let (pad, chat_template) = (named("pad_token"), chat_template(folder, &config)?);
    Ok(SpecialTokens { bos, eos, pad, chat_template, add_bos })
}

/// The content of `tokenizer_config.json`.
pub(super) fn to_config(special: &SpecialTokens, inner: &tokenizers::Tokenizer) -> Value {
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    config.insert("add_bos_token".into(), json!(special.add_bos));
    let text = |id: u32| inner.id_to_token(id).map(Value::String);
    if let Some(bos) = special.bos.and_then(text) {
        config.insert("bos_token".into(), bos);
    }
    if let Some(eos) = special.eos.first().copied().and_then(text) {
        config.insert("eos_token".into(), eos);
    }
    if let Some(pad) = special.pad.and_then(text) {
        config.insert("pad_token".into(), pad);
    }
    if let Some(template) = &special.chat_template {
        config.insert("chat_template".into(), json!(template));
    }
    Value::Object(config)
}

/// The first token the tokenizer's own post-processor puts before a text.
fn opens_with(inner: &tokenizers::Tokenizer) -> Option<u32> {
    inner.encode_fast("", true).ok()?.get_ids().first().copied()
}

fn chat_template(folder: &Path, config: &Map<String, Value>) -> Result<Option<String>> {
    let file = folder.join("chat_template.jinja");
    if file.is_file() {
        let text = std::fs::read_to_string(&file);
        return text.map(Some).map_err(|error| Error::io("reading", &file, &error));
    }
    Ok(match config.get("chat_template") {
        Some(Value::String(template)) => Some(template.clone()),
        // Several templates by name: the one for a plain conversation is called "default".
        Some(Value::Array(named)) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            default.or(named.first()).and_then(|entry| entry["template"].as_str()).map(String::from)
        }
        _ => None,
    })
}

/// A token is written as its text, or as an object with a `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// Ids are written as one number or as a list of them.
fn token_ids(value: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    value.as_array().map_or_else(
        || one(value).into_iter().collect(),
        |list| list.iter().filter_map(one).collect(),
    )
}

/// The JSON object in the file, or an empty one where there is no such file.
fn read_object(path: &Path) -> Result<Map<String, Value>> {
    if !path.is_file() {
        return Ok(Map::new());
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("reading", path, &e))?;
    serde_json::from_str(&text)
        .map_err(|e| Error::input(format!("this is not a JSON object: {e}")).at(path.display()))
}
