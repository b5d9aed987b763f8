//! Configuration of the text: files, held-out splits and the length of a window.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The text of a run and how it is cut into windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Files, folders (searched for .txt .md .jsonl .json .parquet) and globs.
    pub files: Vec<String>,
    /// The field of a JSON object, or the column of a Parquet file, that holds the text;
    /// dots descend: `message.content`.
    pub field: String,
    /// T, tokens in a training window.
    pub window_tokens: usize,
    /// Allow windows longer than the context length of the model.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub beyond_context: bool,
    /// What a fraction of the text holds out: whole documents, or the end of every document.
    #[serde(skip_serializing_if = "SplitBy::is_document")]
    pub split_by: SplitBy,
    /// Stop reading the training split after this many tokens; all of it when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_tokens: Option<usize>,
    /// Held out for decisions made while training: a fraction of documents, or files.
    pub validation: SplitConfig,
    /// Held out for the numbers that are reported: a fraction of documents, or files.
    pub test: SplitConfig,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            field: "text".to_owned(),
            window_tokens: 256,
            beyond_context: false,
            split_by: SplitBy::Document,
            train_tokens: None,
            validation: SplitConfig::default(),
            test: SplitConfig::default(),
        }
    }
}

/// What a fraction of the text holds out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// Whole documents, by a hash of their content.
    #[default]
    Document,
    /// The end of every document: its last fraction is for the test, what comes before it for
    /// validation. One document is enough; what is held out continues what was trained on.
    Passage,
}

impl SplitBy {
    /// Whether it is the default.
    #[must_use]
    pub fn is_document(&self) -> bool {
        *self == Self::Document
    }
}

/// What a held-out split consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a fraction from 0 to 1, or a list of files")]
pub enum SplitConfig {
    /// This fraction, as `split_by` says. Documents are chosen by a hash of their content: one stays
    /// on its side of the split whatever files are added, moved or removed.
    Fraction(f64),
    /// The documents of these files, folders and globs; none of them is trained on, even if
    /// `files` matches them too.
    Files(Vec<String>),
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self::Fraction(0.05)
    }
}

impl SplitConfig {
    /// The fraction of all documents, 0 when the split is a list of files.
    pub(super) fn fraction(&self) -> f64 {
        match self {
            Self::Fraction(fraction) => *fraction,
            Self::Files(_) => 0.0,
        }
    }

    /// The listed files, none when the split is a fraction.
    pub(super) fn files(&self) -> &[String] {
        match self {
            Self::Fraction(_) => &[],
            Self::Files(files) => files,
        }
    }
}

/// A part of a corpus that shares no document with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// What is learned from.
    Train,
    /// What decisions are made on while training.
    Validation,
    /// What is reported.
    Test,
}

impl Split {
    /// Its name in messages and recipes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl DataConfig {
    /// Refuses what no corpus can be made of, before a file is opened.
    ///
    /// # Errors
    /// The first key that is out of its range.
    pub fn validate(&self) -> Result<()> {
        if self.window_tokens == 0 {
            return Err(Error::input("a window of 0 tokens holds nothing: expected 1 or more")
                .at("data.window_tokens"));
        }
        for (name, split) in [("validation", &self.validation), ("test", &self.test)] {
            let fraction = split.fraction();
            if !(0.0..=1.0).contains(&fraction) {
                return Err(Error::input(format!("{fraction} is not a fraction: expected 0 to 1"))
                    .at(format!("data.{name}")));
            }
        }
        let held_out = self.validation.fraction() + self.test.fraction();
        if held_out > 1.0 {
            return Err(Error::input(format!(
                "validation and test take {held_out} of the documents: expected at most 1"
            ))
            .at("data"));
        }
        if self.files.is_empty()
            && self.validation.files().is_empty()
            && self.test.files().is_empty()
        {
            return Err(Error::input("no text was given").at("data.files").hint(
                "name files, folders or globs, for example data.files = [\"corpus/*.txt\"]",
            ));
        }
        Ok(())
    }
}
