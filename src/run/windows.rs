//! Windows against what a model can read: its context length, and the windows it was trained on.

use crate::context::Context;
use crate::error::{Error, Result};
use crate::hub::Checkpoint;

/// Whether windows may be longer than a model's context length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeyondContext {
    /// They are refused.
    Refuse,
    /// They are warned of.
    Allow,
}

impl From<bool> for BeyondContext {
    fn from(allow: bool) -> Self {
        if allow { Self::Allow } else { Self::Refuse }
    }
}

/// Windows, and who asks for them.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    /// Tokens of a window.
    pub tokens: usize,
    /// The recipe key or the flag that says so.
    pub key: &'a str,
    /// The recipe key or the flag that allows them beyond the context length.
    pub override_key: &'a str,
}

/// Refuses windows that are longer than the context length of `model`, and notes those that are
/// longer than the windows it was trained on.
///
/// # Errors
/// They are longer, and `beyond` refuses them.
pub fn check_windows(
    model: &Checkpoint,
    windows: Windows,
    beyond: BeyondContext,
    context: &Context,
) -> Result<()> {
    let Windows { tokens, key, override_key } = windows;
    let most = model.config.max_positions;
    if tokens > most {
        let message =
            format!("windows of {tokens} tokens are longer than the model's context of {most}");
        if beyond == BeyondContext::Refuse {
            return Err(Error::input(message).at(key).hint(format!(
                "give {most} or fewer; to measure a model where it was never meant to read, add \
                 {override_key}"
            )));
        }
        context.warn(&format!("{message} (`{}`)", model.origin));
        return Ok(());
    }
    if let Some(trained) = model.about.trained_window_tokens.filter(|trained| tokens > *trained) {
        context.note(&format!(
            "windows of {tokens} tokens: `{}` was trained on windows of {trained}, and its later \
             positions were never trained",
            model.origin
        ));
    }
    Ok(())
}
