//! `report`: makes a page of what is on disk.

use crate::cli::args::study::ReportArgs;
use crate::cli::output;
use crate::cli::session::Session;
use crate::error::Result;
use crate::{report, study};

pub(crate) fn report(args: &ReportArgs, session: &Session) -> Result<()> {
    study::refuse_empty(&args.folder)?;
    if let Err(error) = study::refresh(&args.folder) {
        session.context.warn(&format!("what the study found is not brought up to date: {error}"));
    }
    let page = report::write(&args.folder)?;
    if session.json {
        return output::json(&serde_json::json!({ "page": page }));
    }
    output::line(&page.display().to_string())
}
