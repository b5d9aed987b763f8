//! Rendering of chat templates: a conversation as one prompt.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error as Jinja, ErrorKind, State};

use crate::error::{Error, Result};

/// Renders a chat template as its model was trained on it: blocks trimmed, Python's methods at
/// hand, and the prompt open for the answer.
///
/// # Errors
/// The template is malformed, or refuses these messages.
pub(super) fn render(
    template: &str,
    messages: &[(String, String)],
    bos: &str,
    eos: &str,
) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| Error::internal(error.to_string()))?,
    );
    environment.set_unknown_method_callback(python_method);
    environment.add_function(
        "raise_exception",
        |message: String| -> std::result::Result<Value, Jinja> {
            Err(Jinja::new(ErrorKind::InvalidOperation, message))
        },
    );
    let messages = messages.iter().map(|(role, content)| {
        Value::from_pairs([("role", role.as_str()), ("content", content.as_str())])
    });
    let context = Value::from_pairs([
        ("messages", messages.collect::<Value>()),
        ("add_generation_prompt", Value::from(true)),
        ("bos_token", Value::from(bos)),
        ("eos_token", Value::from(eos)),
    ]);
    environment.render_str(template, context).map_err(|error| {
        Error::input(format!("the chat template fails: {error}"))
            .hint("give the prompt as plain text, or check roles: system, user, assistant")
    })
}

/// The methods of Python's strings and dicts that published templates call.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> std::result::Result<Value, Jinja> {
    match (value.kind(), value.as_str()) {
        (_, Some(text)) => string_method(text, method, arguments),
        (ValueKind::Map, _) => match (method, arguments) {
            ("items", []) => state.apply_filter("items", std::slice::from_ref(value)),
            ("keys", []) => Ok(value.try_iter()?.collect()),
            ("values", []) => {
                let values = value.try_iter()?.map(|key| value.get_item(&key));
                Ok(values.collect::<std::result::Result<Vec<_>, _>>()?.into_iter().collect())
            }
            ("get", [key, rest @ ..]) => {
                let found = value.get_item(key)?;
                let default = || rest.first().cloned().unwrap_or(Value::from(()));
                Ok(if found.is_undefined() { default() } else { found })
            }
            _ => Err(Jinja::from(ErrorKind::UnknownMethod)),
        },
        _ => Err(Jinja::from(ErrorKind::UnknownMethod)),
    }
}

fn string_method(
    text: &str,
    method: &str,
    arguments: &[Value],
) -> std::result::Result<Value, Jinja> {
    let strings: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
    let set = |c: char| match strings.first() {
        Some(chars) => chars.contains(c),
        None => c.is_whitespace(),
    };
    Ok(match (method, strings.as_slice()) {
        ("strip", _) => Value::from(text.trim_matches(set)),
        ("lstrip", _) => Value::from(text.trim_start_matches(set)),
        ("rstrip", _) => Value::from(text.trim_end_matches(set)),
        ("upper", []) => Value::from(text.to_uppercase()),
        ("lower", []) => Value::from(text.to_lowercase()),
        ("startswith", [start]) => Value::from(text.starts_with(start)),
        ("endswith", [end]) => Value::from(text.ends_with(end)),
        ("replace", [from, to]) => Value::from(text.replace(from, to)),
        ("split", []) => text.split_whitespace().map(Value::from).collect(),
        ("split", [separator]) if !separator.is_empty() => {
            text.split(separator).map(Value::from).collect()
        }
        _ => return Err(Jinja::from(ErrorKind::UnknownMethod)),
    })
}
