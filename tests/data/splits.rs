//! No document is on two sides, and it stays on its side.

use std::collections::BTreeSet;

use factorexe::data::{Corpus, DataConfig, Split, SplitConfig};
use proptest::prelude::*;

use super::{config, folder, open, strings, texts, write};

fn split_texts(corpus: &Corpus) -> [BTreeSet<String>; 3] {
    [Split::Train, Split::Validation, Split::Test]
        .map(|split| texts(&corpus.split(split)).into_iter().collect())
}

fn fractions(validation: f64, test: f64) -> DataConfig {
    DataConfig {
        validation: SplitConfig::Fraction(validation),
        test: SplitConfig::Fraction(test),
        ..config(&["."])
    }
}

fn lines(range: std::ops::Range<u32>) -> String {
    let line = |number| format!("{{\"text\": \"document {number}\"}}");
    range.map(line).collect::<Vec<_>>().join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_splits_are_the_corpus_without_overlap(validation in 0.0..0.5, test in 0.0..0.5) {
        let folder = folder(&[("a.jsonl", &lines(0..400))]);
        let corpus = open(&fractions(validation, test), folder.path()).unwrap();
        let splits = split_texts(&corpus);
        let all: BTreeSet<_> = splits.iter().flatten().collect();
        prop_assert_eq!(all.len(), 400);
        prop_assert_eq!(splits.iter().map(BTreeSet::len).sum::<usize>(), 400);
        // 400 draws: standard deviation at most 10, six of them.
        prop_assert!((splits[1].len() as f64 - 400.0 * validation).abs() < 60.0);
        prop_assert!((splits[2].len() as f64 - 400.0 * test).abs() < 60.0);
    }
}

#[test]
fn a_document_keeps_its_side_when_files_and_fractions_change() {
    let folder = folder(&[("b.jsonl", &lines(0..200))]);
    let before = split_texts(&open(&fractions(0.2, 0.2), folder.path()).unwrap());
    write(folder.path(), "a.jsonl", lines(200..400).as_bytes());
    let after = split_texts(&open(&fractions(0.2, 0.2), folder.path()).unwrap());
    for (before, after) in before.iter().zip(&after) {
        assert!(before.is_subset(after));
        assert!(before.len() < after.len());
    }
    let other = split_texts(&open(&fractions(0.4, 0.2), folder.path()).unwrap());
    assert_eq!(other[2], after[2]);
    assert!(after[1].is_subset(&other[1]));
}

#[test]
fn listed_files_are_never_trained_on() {
    let folder = folder(&[
        ("a.txt", "train"),
        ("b.txt", "validation"),
        ("deep/c.txt", "test"),
        ("copy.txt", "test"),
    ]);
    let config = DataConfig {
        validation: SplitConfig::Files(strings(&["./b.txt"])),
        test: SplitConfig::Files(strings(&["d*"])),
        ..config(&[".", "*.txt"])
    };
    let corpus = open(&config, folder.path()).unwrap();
    let expected = [["train"], ["validation"], ["test"]];
    assert_eq!(split_texts(&corpus), expected.map(|texts| texts.map(str::to_owned).into()));

    let both = DataConfig { validation: config.test.clone(), ..config };
    let error = open(&both, folder.path()).unwrap_err();
    assert!(error.message().contains("both data.validation and data.test"), "{error}");
}

#[test]
fn the_training_split_stops_at_its_limit() {
    let folder = folder(&[("a.txt", "12345"), ("b.txt", "678"), ("c.txt", "9")]);
    let config = DataConfig { train_tokens: Some(7), ..config(&["."]) };
    let corpus = open(&config, folder.path()).unwrap();
    assert_eq!(texts(&corpus.split(Split::Train)), ["12345", "67"]);
}

#[test]
fn a_split_is_read_from_a_recipe() {
    let read = |text: &str| toml::from_str::<DataConfig>(text);
    let config = read("files = ['a']\nvalidation = 0\ntest = ['b', 'c']").unwrap();
    assert_eq!(config.validation, SplitConfig::Fraction(0.0));
    assert_eq!(config.test, SplitConfig::Files(strings(&["b", "c"])));
    let error = read("test = true").unwrap_err().to_string();
    assert!(error.contains("expected a fraction from 0 to 1, or a list of files"), "{error}");
    let whole = DataConfig::default();
    assert_eq!(read(&toml::to_string(&whole).unwrap()).unwrap(), whole);
    assert!(read("files = ['a']\ntest = 1.5").unwrap().validate().is_err());
    assert!(read("files = ['a']\ntest = 0.6\nvalidation = 0.6").unwrap().validate().is_err());
    assert!(read("").unwrap().validate().is_err());
}
