//! `report`: a page, or Markdown tables, of the results in a folder.

use crate::cli::args::report::ReportArgs;
use crate::cli::output;
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::{report, study};

pub(crate) fn report(args: &ReportArgs, session: &Session) -> Result<()> {
    for folder in &args.folders {
        study::refuse_empty(folder)?;
        if let Err(error) = study::refresh(folder) {
            session.context.warn(&format!("the laws of the study are not up to date: {error}"));
        }
    }
    if args.markdown {
        return output::write(&markdown(args, session)?);
    }
    let [folder] = &args.folders[..] else {
        return Err(Error::input("a page is of one folder")
            .hint("compare several runs in one table with --markdown"));
    };
    let page = report::write(folder)?;
    if session.json {
        return output::json(&serde_json::json!({ "page": page }));
    }
    output::line(&page.display().to_string())
}

/// The tables of one folder, or one table of several runs.
fn markdown(args: &ReportArgs, session: &Session) -> Result<String> {
    let [folder] = &args.folders[..] else {
        if let [name, ..] = &args.table[..] {
            return Err(Error::input(format!("`--table {name}` is of one folder"))
                .hint("without --table, the runs are compared in one table"));
        }
        return Ok(report::compare(&args.folders)?.markdown());
    };
    let sections = report::compose(folder)?;
    for note in report::notes(&sections) {
        session.context.warn(note);
    }
    report::markdown(&sections, &args.table)
}
