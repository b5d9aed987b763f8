//! Writing of the report of a folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::csv::Shown;
use super::page::{Item, Section, html};
use super::plot::svg;
use super::png::Painter;
use super::{csv, exits, law, run, scaling};
use crate::disk::write_atomically;
use crate::error::{Error, Result};

/// What the data in a folder says, part by part; nothing is written.
///
/// # Errors
/// The folder holds nothing that a report could be made of.
pub fn compose(folder: &Path) -> Result<Vec<Section>> {
    let kinds = [law::compose, scaling::compose, exits::compose, run::compose];
    let mut sections: Vec<Section> = kinds.iter().filter_map(|compose| compose(folder)).collect();
    let shown = if sections.is_empty() { Shown::Always } else { Shown::OnRequest };
    sections.extend(csv::compose(folder, shown));
    if sections.is_empty() { Err(nothing(folder)) } else { Ok(sections) }
}

/// Writes `report.html` and `figures/` into a folder, from the data in it, and returns the path of
/// the page. Each file is there whole, or as it was.
///
/// # Errors
/// The folder holds nothing that a report could be made of, or the disk does not take it.
pub fn write(folder: &Path) -> Result<PathBuf> {
    let sections = compose(folder)?;
    let figures = folder.join("figures");
    fs::create_dir_all(&figures).map_err(|error| Error::io("making", &figures, &error))?;
    let painter = Painter::new();
    for item in sections.iter().flat_map(|section| &section.items) {
        if let Item::Figure(figure, _) = item {
            let picture = svg(figure);
            let path = |ending: &str| figures.join(format!("{}.{ending}", figure.name));
            write_atomically(&path("svg"), picture.as_bytes())?;
            write_atomically(&path("png"), &painter.png(&picture)?)?;
        }
    }
    let page = folder.join("report.html");
    write_atomically(&page, html(&title(folder), &sections).as_bytes())?;
    Ok(page)
}

/// The name of the folder, even if it was given as `.`.
fn title(folder: &Path) -> String {
    let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let name = whole.file_name().unwrap_or(whole.as_os_str());
    name.to_string_lossy().into_owned()
}

fn nothing(folder: &Path) -> Error {
    let found = if folder.is_dir() { "nothing to report on" } else { "there is no such folder" };
    Error::input(format!(
        "{found}; expected law.json, scaling.json, exits.json, a CSV file, or the eval.json or \
         metrics.jsonl of a run"
    ))
    .at(folder.display())
    .hint("give the folder that the command wrote into: factorize report FOLDER")
}
