//! The words of the project are those of the field: words that no paper uses stay out of the
//! sources, tests, recipes and READMEs.

use std::fs;
use std::path::{Path, PathBuf};

/// A word that is not used, and the field's word for it.
struct Banned {
    /// Matched between word boundaries; `_` counts as a letter.
    word: &'static str,
    instead: &'static str,
    /// Files in which the word stands, each for the reason given.
    except: &'static [(&'static str, &'static str)],
}

const fn banned(word: &'static str, instead: &'static str) -> Banned {
    Banned { word, instead, except: &[] }
}

/// This file names the words.
const SELF: &str = "tests/glossary.rs";

const BANNED: &[Banned] = &[
    banned("Lesson", "TeacherOutputs"),
    banned("Teaching", "TeacherSource"),
    banned("StoredAs", "WeightType"),
    banned("StoredMatrix", "QuantizedMatrix"),
    banned("Weighting", "WeightSchedule"),
    banned("DepthLaw", "RepetitionSampling"),
    banned("Anatomy", "LayerStacks"),
    banned("Surprise", "LanguageModelScore"),
    banned("surprise_nats", "nll_nats"),
    banned("yardstick", "reference"),
    banned("stands_for", "aligned_layer"),
    banned("goes_on", "with_resume_hint"),
    banned("going_on", "active_tokens"),
    banned("in_lanes", "in_shards"),
    banned("said_at", "output_at"),
    banned("unasked", "unsupervised"),
    banned("heard", "input, conditioned on"),
    banned("hears", "reads"),
    banned("way back", "backward pass"),
    banned("computed anew", "recomputed, activation checkpointing"),
];

fn files(folder: &Path, endings: &[&str], into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "fixtures" {
            files(&path, endings, into);
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            into.push(path);
        }
    }
}

/// The lines of `text`, counted from 1, in which `word` stands between word boundaries.
fn lines_with(text: &str, word: &str) -> Vec<usize> {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let stands_in = |line: &str| {
        line.match_indices(word).any(|(start, _)| {
            let before = line[..start].chars().next_back();
            let after = line[start + word.len()..].chars().next();
            !before.is_some_and(is_letter) && !after.is_some_and(is_letter)
        })
    };
    let lines = text.lines().enumerate();
    lines.filter(|(_, line)| stands_in(line)).map(|(index, _)| index + 1).collect()
}

/// Complaints about the words of a file.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let allowed =
        |banned: &Banned| path == SELF || banned.except.iter().any(|(file, _)| *file == path);
    let of_word = |banned: &Banned| {
        let (word, instead) = (banned.word, banned.instead);
        let lines = lines_with(text, word).into_iter();
        lines.map(move |line| format!("{path}:{line}: `{word}`; write {instead}")).collect()
    };
    let words = BANNED.iter().filter(|banned| !allowed(banned));
    words.flat_map(|banned| -> Vec<String> { of_word(banned) }).collect()
}

#[test]
fn only_the_words_of_the_field_are_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for (folder, endings) in [
        ("src", &[".rs", ".css"][..]),
        ("tests", &[".rs"]),
        ("benches", &[".rs", ".md"]),
        ("recipes", &[".toml", ".md"]),
    ] {
        files(&root.join(folder), endings, &mut paths);
    }
    assert!(paths.len() > 300, "only {} files found", paths.len());
    let mut found = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        found.extend(complaints(&name, &fs::read_to_string(&path).unwrap()));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_word_is_found_between_boundaries_alone() {
    assert_eq!(lines_with("a\nLesson, Lessons\n_Lesson\nmy Lesson", "Lesson"), [2, 4]);
    assert_eq!(
        complaints("src/a.rs", "no\n/// on the way back"),
        ["src/a.rs:2: `way back`; write backward pass"]
    );
    assert!(complaints(SELF, "way back").is_empty());
}

#[test]
fn every_exception_is_still_needed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for banned in BANNED {
        for (file, reason) in banned.except {
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            let (word, lines) = (banned.word, lines_with(&text, banned.word));
            assert!(!lines.is_empty(), "{file} no longer has `{word}` ({reason})");
        }
    }
}
