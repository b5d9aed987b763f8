//! Settings of the Hugging Face Hub from the environment.

use std::path::PathBuf;

/// Settings of the Hub from the environment. Everything left out is read by the client itself:
/// `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT`.
#[derive(Debug, Clone, Default)]
pub struct HubConfig {
    /// Address of the hub.
    pub endpoint: Option<String>,
    /// Folder of the cache.
    pub cache: Option<PathBuf>,
    /// Token of the user.
    pub token: Option<String>,
    /// How often a request is tried.
    pub attempts: Option<usize>,
    /// Only the cache is used.
    pub offline: bool,
}

impl HubConfig {
    /// Reads `HF_HUB_OFFLINE`, which the client does not.
    #[must_use]
    pub fn from_env() -> Self {
        let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| means_yes(&value));
        Self { offline, ..Self::default() }
    }
}

/// The values Python's client takes for true.
fn means_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")
}

#[cfg(test)]
mod tests {
    #[test]
    fn offline_is_said_as_python_says_it() {
        assert!(["1", "true", "YES", "on"].iter().all(|value| super::means_yes(value)));
        assert!(!["", "0", "false", "no"].iter().any(|value| super::means_yes(value)));
    }
}
