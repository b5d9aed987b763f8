//! What a checkpoint says of itself beside its shape and its weights: licence, languages, where it
//! comes from, the windows it was trained on.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// The key of `config.json` that holds an [`About`]; stock loaders pass over it.
pub const KEY: &str = "factorexe_about";

/// What a checkpoint says of itself; each part is empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Tokens of the windows it was trained on. Its positions may allow longer texts, on which it
    /// was never trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_window_tokens: Option<usize>,
    /// Identifier of its licence, as on the Hub: `mit`, `apache-2.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Codes of its languages: `en`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// The model it was distilled from, as its user named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// `owner/name` on the Hub: of the model itself where it was fetched from there, of its teacher
    /// for a student.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub_name: Option<String>,
}

impl About {
    /// What the student of a model that says this inherits from it.
    #[must_use]
    pub fn of_student(&self, teacher: &str, window_tokens: usize) -> Self {
        Self {
            trained_window_tokens: Some(window_tokens),
            teacher: Some(teacher.to_owned()),
            ..self.clone()
        }
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What `config.json`, and the card `README.md` beside it, say.
///
/// # Errors
/// The key of `config.json` is there and holds something else.
pub(super) fn of_folder(folder: &Path, config: &Value) -> Result<About> {
    let mut about: About = match config.get(KEY) {
        None => About::default(),
        Some(value) => serde_json::from_value(value.clone()).map_err(|error| {
            Error::input(format!("`{KEY}` cannot be read: {error}")).caused_by(error)
        })?,
    };
    // A card is for people: one that cannot be read says nothing.
    let card = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    if about.license.is_none() {
        about.license = values(&card, "license").into_iter().find(|license| license != "unknown");
    }
    if about.languages.is_empty() {
        about.languages = values(&card, "language");
    }
    Ok(about)
}

/// The lines between the two `---` at the beginning of a card.
pub(super) fn front_matter(card: &str) -> &str {
    let Some(rest) = card.strip_prefix("---\n") else { return "" };
    rest.find("\n---").map_or("", |end| &rest[..=end])
}

/// The value, or the list of values, of a key of the front matter: `key: a`, `key: [a, b]`, or a
/// `- a` on each of the lines below.
pub(super) fn values(card: &str, key: &str) -> Vec<String> {
    let mut lines = front_matter(card).lines();
    let prefix = format!("{key}:");
    let Some(first) = lines.find_map(|line| line.strip_prefix(&prefix)) else { return Vec::new() };
    let clean = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let inline = first.trim().trim_start_matches('[').trim_end_matches(']');
    let listed: Vec<String> = if inline.is_empty() {
        lines.map_while(|line| line.trim_start().strip_prefix("- ")).map(clean).collect()
    } else {
        inline.split(',').map(clean).collect()
    };
    listed.into_iter().filter(|value| !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_and_languages_are_read_in_every_spelling_of_a_card() {
        let card =
            "---\nlicense: mit\nlanguage:\n- en\n- \"de\"\ntags: [a, 'b']\n---\n\nlicense: x";
        assert_eq!(values(card, "license"), ["mit"]);
        assert_eq!(values(card, "language"), ["en", "de"]);
        assert_eq!(values(card, "tags"), ["a", "b"]);
        assert!(values(card, "base_model").is_empty());
        assert!(values("no front matter\nlicense: mit", "license").is_empty());
    }

    #[test]
    fn what_is_written_under_its_key_wins_over_the_card() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("README.md"), "---\nlicense: mit\n---\n").unwrap();
        let about = of_folder(folder.path(), &serde_json::json!({})).unwrap();
        assert_eq!(about.license.as_deref(), Some("mit"));
        let config =
            serde_json::json!({ KEY: { "license": "apache-2.0", "trained_window_tokens": 9 } });
        let about = of_folder(folder.path(), &config).unwrap();
        assert_eq!(about.license.as_deref(), Some("apache-2.0"));
        assert_eq!(about.trained_window_tokens, Some(9));
        assert!(of_folder(folder.path(), &serde_json::json!({ KEY: 3 })).is_err());
    }
}
