//! Ctrl-C: the first press stops softly, the second at once.

use std::io::Write;

use crate::context::Cancellation;
use crate::error::{Error, Result};

/// Stops softly at the first press, at once at the second.
pub(super) fn watch(cancellation: &Cancellation) -> Result<()> {
    let cancellation = cancellation.clone();
    ctrlc::set_handler(move || {
        if cancellation.is_cancelled() {
            std::process::exit(130);
        }
        cancellation.cancel();
        // Nobody may be left to read it.
        let _ = writeln!(
            std::io::stderr(),
            "\nstopping: saving what is there; press Ctrl-C again to leave at once"
        );
    })
    .map_err(|error| Error::internal(format!("Ctrl-C cannot be watched: {error}")))
}
