//! Download of a Hub repository into the local cache.

use std::path::PathBuf;

use super::client::HubConfig;
use super::id::HubId;
use crate::context::Context;
use crate::error::Result;

/// Brings the files of a model here, or finds them in the cache, and gives their folder.
///
/// # Errors
/// The repository or a file is not there, may not be read, or the network fails.
#[cfg(feature = "hub")]
pub fn fetch(id: &HubId, config: &HubConfig, context: &Context) -> Result<PathBuf> {
    super::snapshot::fetch(id, config, context)
}

/// Refuses: this build knows no network.
///
/// # Errors
/// Always.
#[cfg(not(feature = "hub"))]
pub fn fetch(id: &HubId, _config: &HubConfig, _context: &Context) -> Result<PathBuf> {
    Err(crate::error::Error::input(format!(
        "`{id}` is on the Hub, and this build was made without `hub`"
    ))
    .hint("build with --features hub, or download the folder and name it instead"))
}
