//! In which other form is a student wanted?

use super::Session;
use super::args::ExportArgs;
use crate::error::Result;

pub(super) fn export(_args: &ExportArgs, _session: &Session) -> Result<()> {
    Ok(())
}
