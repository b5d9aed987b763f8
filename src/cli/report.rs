//! How is a page made of what is on disk?

use super::study_args::ReportArgs;
use super::{Session, output};
use crate::context::Observer;
use crate::error::Result;
use crate::{report, study};

pub(super) fn report(args: &ReportArgs, session: &Session) -> Result<()> {
    if let Err(error) = study::refresh(&args.folder) {
        session.progress.warn(&format!("what the study found is not brought up to date: {error}"));
    }
    let page = report::write(&args.folder)?;
    if session.json {
        return output::json(&serde_json::json!({ "page": page }));
    }
    output::line(&page.display().to_string())
}
