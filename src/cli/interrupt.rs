//! What does Ctrl-C do?

use std::io::Write;

use crate::error::{Error, Result};
use crate::train::Interrupt;

/// Stops softly at the first press, at once at the second.
pub(super) fn watch(interrupt: &Interrupt) -> Result<()> {
    let interrupt = interrupt.clone();
    ctrlc::set_handler(move || {
        if interrupt.is_set() {
            std::process::exit(1);
        }
        interrupt.set();
        // Nobody may be left to read it.
        let _ = writeln!(
            std::io::stderr(),
            "\nstopping: saving what is there; press Ctrl-C again to leave at once"
        );
    })
    .map_err(|error| Error::internal(format!("Ctrl-C cannot be watched: {error}")))
}
