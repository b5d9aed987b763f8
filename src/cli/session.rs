//! What every verb is given: the context of its work, and the form of its output.

use std::path::PathBuf;

use crate::cli::args::arguments::Common;
use crate::cli::progress::{Progress, Volume};
use crate::cli::{date, interrupt};
use crate::context::{Cancellation, Context};
use crate::error::{Error, Result};
use crate::run::{Provenance, device};

/// What every verb is given.
pub(super) struct Session {
    pub(super) context: Context,
    pub(super) device_name: String,
    pub(super) json: bool,
}

impl Session {
    pub(super) fn new(common: &Common) -> Result<Self> {
        let volume = match (common.quiet, common.verbose) {
            (true, _) => Volume::Quiet,
            (false, false) => Volume::Normal,
            (false, true) => Volume::Verbose,
        };
        let cancellation = Cancellation::new();
        interrupt::watch(&cancellation)?;
        let context = Context::new(device(&common.device)?)
            .with_observer(Progress::new(volume))
            .with_cancellation(cancellation)
            .with_cache(common.cache.clone().map_or_else(default_cache, Ok)?)
            .with_cache_limit(common.cache_limit);
        Ok(Self { context, device_name: common.device.clone(), json: common.json })
    }

    /// The provenance of a result of this command, which begins now.
    pub(super) fn provenance(&self, smoke: bool) -> Provenance {
        Provenance {
            command: std::env::args().collect::<Vec<_>>().join(" "),
            date: date::now(),
            smoke,
            ..Provenance::of_this_build(&self.context)
        }
    }
}

/// `$XDG_CACHE_HOME/factorexe`, else `~/.cache/factorexe`.
fn default_cache() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map(|cache| cache.join("factorexe"))
        .ok_or_else(|| {
            Error::input("there is no home folder to keep tokenised text in")
                .hint("give a folder with --cache")
        })
}
