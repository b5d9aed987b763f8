//! How does a repository of the Hub become a folder?

use std::path::PathBuf;

use super::source::HubId;
use crate::error::{Result, Stopped};
use crate::observe::Observer;

/// What the environment says about the Hub. Everything left out is read by the client itself:
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

/// Brings the files of a model here, or finds them in the cache, and gives their folder.
///
/// # Errors
/// The repository or a file is not there, may not be read, or the network fails.
#[cfg(feature = "hub")]
pub fn fetch(
    id: &HubId,
    config: &HubConfig,
    observer: &dyn Observer,
    stopped: &Stopped,
) -> Result<PathBuf> {
    super::snapshot::fetch(id, config, observer, stopped)
}

/// Refuses: this build knows no network.
///
/// # Errors
/// Always.
#[cfg(not(feature = "hub"))]
pub fn fetch(
    id: &HubId,
    _config: &HubConfig,
    _observer: &dyn Observer,
    _stopped: &Stopped,
) -> Result<PathBuf> {
    Err(crate::error::Error::input(format!(
        "`{id}` is on the Hub, and this build was made without `hub`"
    ))
    .hint("build with --features hub, or download the folder and name it instead"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn offline_is_said_as_python_says_it() {
        assert!(["1", "true", "YES", "on"].iter().all(|value| super::means_yes(value)));
        assert!(!["", "0", "false", "no"].iter().any(|value| super::means_yes(value)));
    }
}
