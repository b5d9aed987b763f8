//! READMEs: every table and every measured number in them is what the committed data say.
//!
//! - Between `<!-- results: ARGUMENTS -->` and `<!-- end -->` stands what
//!   `factorize report --markdown ARGUMENTS` prints.
//! - Between `<!-- recipes -->` and `<!-- end -->` stands the index of the recipes, made of the
//!   first lines of each.
//! - A paragraph with decimals or percentages ends with `<!-- from FILE: KEY, KEY; FILE: KEY -->`:
//!   its numbers in their order.
//!
//! `FACTOREXE_README=write cargo test --release --test main readme` writes them anew.

mod blocks;
mod claims;
mod index;
mod lookup;
mod prose;

use std::path::{Path, PathBuf};

/// README.md at most (lines).
const LONGEST: usize = 170;
/// README.md at most (characters).
const LARGEST: usize = 12_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The READMEs, relative to the root of the repository.
fn readmes() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("README.md"), PathBuf::from("benches/README.md")];
    let mut folders = vec![PathBuf::from("recipes")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.ends_with("README.md") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 3, "{found:?}");
    found
}

fn text(path: &Path) -> String {
    let text = std::fs::read_to_string(root().join(path));
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares a README with what it should hold, or writes it.
fn hold(path: &Path, found: &str, expected: &str) {
    if found == expected {
        return;
    }
    if std::env::var("FACTOREXE_README").is_ok_and(|value| value == "write") {
        std::fs::write(root().join(path), expected).unwrap();
        return;
    }
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    let (line, data) = differs.unwrap_or(("(the end)", "(more lines, or fewer)"));
    panic!(
        "{} disagrees with the data:\n  it has   {line}\n  data say {data}\n\n\
         hint: FACTOREXE_README=write cargo test --release --test main readme",
        path.display()
    );
}

#[test]
fn every_table_is_what_report_prints_of_the_data() {
    let mut tables = 0;
    for path in readmes() {
        let found = text(&path);
        let (expected, count) = blocks::rendered(&found);
        tables += count;
        hold(&path, &found, &expected);
    }
    assert!(tables >= 3, "{tables} tables");
}

#[test]
fn every_measured_number_is_what_the_data_say() {
    // The card of the teacher travels with it, and has no data beside it.
    for path in readmes().into_iter().filter(|path| !path.starts_with("recipes/sotu-12l")) {
        let found = text(&path);
        let folder = root().join(path.parent().unwrap());
        let expected = prose::rendered(&found, &folder);
        let expected = expected.unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        hold(&path, &found, &expected);
    }
}

#[test]
fn the_readme_is_short() {
    let readme = text(Path::new("README.md"));
    let (lines, characters) = (readme.lines().count(), readme.chars().count());
    assert!(lines <= LONGEST, "{lines} lines");
    assert!(characters <= LARGEST, "{characters} characters");
}

/// Links between files of the repository; those to the network are not followed.
#[test]
fn every_link_leads_to_a_file() {
    for path in readmes() {
        let text = text(&path);
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let file = root().join(path.parent().unwrap()).join(target);
            assert!(file.exists(), "{}: {target}", path.display());
        }
    }
}
