//! A corpus: files of text, tokenised and split by document into train, validation and test.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::cache::{self, Cached, Index};
use super::config::{DataConfig, Split, SplitBy};
use super::documents::{Documents, Span};
use super::encode::Encode;
use super::files::{self, SourceFile};
use super::mapped::{Tokens, Width};
use super::tokenise::{STOPPED, tokenise};
use crate::context::Context;
use crate::error::{Error, Result, counted};

/// Part of every key: raised when the same text would be stored as other tokens.
const CACHE_VERSION: u8 = 1;

/// Tokenised text, split by document.
#[derive(Debug)]
pub struct Corpus {
    tokens: Arc<Tokens>,
    sources: Arc<[String]>,
    separator: Option<u32>,
    train: Arc<[Span]>,
    validation: Arc<[Span]>,
    test: Arc<[Span]>,
    fingerprint: String,
    window_tokens: usize,
}

/// A file and the split its documents are for.
struct Entry {
    file: SourceFile,
    /// `Train` may still lose documents to the other two by their hash.
    split: Split,
}

impl Corpus {
    /// Tokenises what `config` names, or finds it tokenised in the cache of `context`. Relative
    /// files start at `base`; `context` is polled for cancellation.
    ///
    /// # Errors
    /// A file is missing, unreadable or not text; there is no text at all; the cache cannot be
    /// written; the user stopped it.
    pub fn open(
        config: &DataConfig,
        base: &Path,
        tokenizer: &dyn Encode,
        context: &Context,
    ) -> Result<Self> {
        config.validate()?;
        let (files, splits): (Vec<_>, Vec<_>) =
            entries(config, base)?.into_iter().map(|entry| (entry.file, entry.split)).unzip();
        let key = key(&files, &config.field, tokenizer, context)?;
        let width = Width::of(tokenizer.vocabulary());
        let Cached { tokens, index } = cache::open_or_build(&key, width, context, |writer| {
            tokenise(&files, &config.field, tokenizer, writer, context)
        })?;
        if index.ends.is_empty() {
            return Err(Error::input(format!(
                "the corpus is empty: there is no text in its {}",
                counted(files.len(), "file")
            ))
            .at("data.files")
            .hint("are these the right files, and is data.field the field that holds the text?"));
        }
        let [train, validation, test] = assign(config, &splits, &index, context);
        let corpus = Self {
            tokens: Arc::new(tokens),
            sources: files.iter().map(|file| file.path.display().to_string()).collect(),
            separator: tokenizer.document_end(),
            train: capped(train, config.train_tokens).into(),
            validation: validation.into(),
            test: test.into(),
            fingerprint: key,
            window_tokens: config.window_tokens,
        };
        corpus.report(config, context);
        Ok(corpus)
    }

    /// The documents of a split.
    #[must_use]
    pub fn split(&self, split: Split) -> Documents {
        let spans = match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        };
        Documents {
            name: split.name(),
            tokens: Arc::clone(&self.tokens),
            spans: Arc::clone(spans),
            sources: Arc::clone(&self.sources),
            separator: self.separator,
        }
    }

    /// Fingerprint: equal for two corpora only if they hold the same tokens in the same order.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Tokens of the windows it is trained on.
    #[must_use]
    pub fn window_tokens(&self) -> usize {
        self.window_tokens
    }

    fn report(&self, config: &DataConfig, context: &Context) {
        let describe = |split: Split| {
            let documents = self.split(split);
            let (tokens, documents) = (documents.tokens(), counted(documents.len(), "document"));
            format!("{} {tokens} tokens in {documents}", split.name())
        };
        let splits = [Split::Train, Split::Validation, Split::Test].map(describe);
        context.note(&format!("corpus: {}", splits.join(", ")));
        let held_out = [(Split::Validation, &config.validation), (Split::Test, &config.test)];
        for (split, wanted) in held_out {
            if wanted.fraction() > 0.0 && self.split(split).is_empty() {
                context.warn(&format!(
                    "no document fell into the {name} split, of {} to draw from: write \
                     data.split_by = \"passage\" to hold out the end of every document, or list \
                     files in data.{name}",
                    self.train.len(),
                    name = split.name(),
                ));
            }
        }
    }
}

/// The files of all splits, each once; a file listed for a held-out split is nowhere else.
fn entries(config: &DataConfig, base: &Path) -> Result<Vec<Entry>> {
    let resolve = |key: &str, patterns: &[String]| {
        files::resolve(patterns, base).map_err(|error| error.at(format!("data.{key}")))
    };
    let validation = resolve("validation", config.validation.files())?;
    let test = resolve("test", config.test.files())?;
    let identities = |files: &[SourceFile]| -> BTreeSet<_> {
        files.iter().map(|file| file.identity.clone()).collect()
    };
    let (in_validation, in_test) = (identities(&validation), identities(&test));
    if let Some(both) = in_validation.intersection(&in_test).next() {
        return Err(Error::input("this file is in both data.validation and data.test")
            .at(both.display())
            .hint("numbers on a split that decisions were made on are too good"));
    }
    let mut train = resolve("files", &config.files)?;
    train.retain(|file| {
        !in_validation.contains(&file.identity) && !in_test.contains(&file.identity)
    });
    let of =
        |files: Vec<SourceFile>, split| files.into_iter().map(move |file| Entry { file, split });
    Ok(of(train, Split::Train)
        .chain(of(validation, Split::Validation))
        .chain(of(test, Split::Test))
        .collect())
}

/// A name for these contents under this tokenizer. Where the files lie is not part of it.
fn key(
    files: &[SourceFile],
    field: &str,
    tokenizer: &dyn Encode,
    context: &Context,
) -> Result<String> {
    context.begin("read", files.iter().map(|file| file.bytes).sum(), "bytes");
    let done = AtomicU64::new(0);
    let advance = |bytes: u64| {
        context.advance(done.fetch_add(bytes, Ordering::Relaxed) + bytes, "");
        context.check_cancelled(STOPPED)
    };
    let hashes: Result<Vec<_>> =
        files.par_iter().map(|file| cache::hash_file(&file.path, &advance)).collect();
    context.end();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[CACHE_VERSION]);
    for text in [field, &tokenizer.fingerprint()] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    for (file, hash) in files.iter().zip(hashes?) {
        hasher.update(&[file.format as u8]);
        hasher.update(hash.as_bytes());
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// The documents of train, validation and test. Text that is held out by a list of files is
/// held out wherever else it stands, too.
fn assign(
    config: &DataConfig,
    splits: &[Split],
    index: &Index,
    context: &Context,
) -> [Vec<Span>; 3] {
    let split_of = |document: usize| splits[index.files[document] as usize];
    let documents = 0..index.ends.len();
    let hashes_of = |split: Split| -> BTreeSet<u64> {
        let listed = documents.clone().filter(|document| split_of(*document) == split);
        listed.map(|document| index.hashes[document]).collect()
    };
    let (validation, test) = (hashes_of(Split::Validation), hashes_of(Split::Test));
    let mut spans = [const { Vec::new() }; 3];
    let mut twice = 0_usize;
    for document in documents {
        let hash = index.hashes[document];
        let split = split_of(document);
        let elsewhere = match split {
            Split::Train => validation.contains(&hash) || test.contains(&hash),
            Split::Validation => test.contains(&hash),
            Split::Test => false,
        };
        if elsewhere {
            twice += 1;
            continue;
        }
        let start = if document == 0 { 0 } else { index.ends[document - 1] };
        let span = Span { start, end: index.ends[document], file: index.files[document] };
        match (split, config.split_by) {
            (Split::Train, SplitBy::Document) => spans[draw(config, hash) as usize].push(span),
            (Split::Train, SplitBy::Passage) => {
                for (all, passages) in spans.iter_mut().zip(passages(config, span)) {
                    all.extend(passages);
                }
            }
            (listed, _) => spans[listed as usize].push(span),
        }
    }
    if twice > 0 {
        context.note(&format!("{} left out: held out elsewhere", counted(twice, "document")));
    }
    if index.empty > 0 {
        context.note(&format!("{} left out: empty", counted(index.empty, "document")));
    }
    spans
}

/// The split of a document that no list decides: test takes the lowest hashes and validation
/// the highest, so that changing the one leaves the other as it is.
fn draw(config: &DataConfig, hash: u64) -> Split {
    // A conversion from float saturates: a fraction of 1 is everything.
    let below = |fraction: f64| (fraction * 2_f64.powi(64)) as u64;
    if hash < below(config.test.fraction()) {
        Split::Test
    } else if u64::MAX - hash < below(config.validation.fraction()) {
        Split::Validation
    } else {
        Split::Train
    }
}

/// Tokens of a held-out passage, which counts as a document: intervals are over several of them.
const PASSAGE_TOKENS: usize = 1024;

/// A document cut into what is trained on and, at its end, passages for validation and test.
fn passages(config: &DataConfig, document: Span) -> [Vec<Span>; 3] {
    let tokens = document.tokens() as f64;
    let held_out = |fraction: f64| (fraction * tokens).round() as usize;
    let test = document.end - held_out(config.test.fraction());
    let validation =
        test.saturating_sub(held_out(config.validation.fraction())).max(document.start);
    let cut = |start: usize, end: usize| -> Vec<Span> {
        let starts = (start..end).step_by(PASSAGE_TOKENS);
        starts
            .map(|start| Span { start, end: end.min(start + PASSAGE_TOKENS), ..document })
            .collect()
    };
    let train = Span { end: validation, ..document };
    let train = if train.tokens() > 0 { vec![train] } else { Vec::new() };
    [train, cut(validation, test), cut(test, document.end)]
}

/// The first `limit` tokens.
fn capped(mut spans: Vec<Span>, limit: Option<usize>) -> Vec<Span> {
    let mut left = limit.unwrap_or(usize::MAX);
    for span in &mut spans {
        span.end = span.end.min(span.start.saturating_add(left));
        left -= span.tokens();
    }
    spans.retain(|span| span.tokens() > 0);
    spans
}
