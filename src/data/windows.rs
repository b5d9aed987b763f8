//! Windows of tokens: packed and shuffled for training, within documents for evaluation.

use super::batch::{Batch, Batches};
use super::documents::{Documents, Span};
use super::permutation::Permutation;
use crate::error::{Error, Result};

/// Shuffled windows of packed documents, an endless stream of batches.
///
/// The documents are laid end to end, each followed by the tokenizer's end-of-text token, and
/// cut every T tokens; the token after a window is the target of its last input, so each token
/// but the first is predicted once an epoch. A last piece shorter than a window is left out.
/// Every epoch is another permutation; a batch may hold the end of one and the start of the next.
#[derive(Debug, Clone)]
pub struct PackedWindows {
    documents: Documents,
    /// Where each document starts in the packed stream, and where the stream ends.
    starts: Vec<usize>,
    window_tokens: usize,
    rows: usize,
    windows: u64,
    seed: u64,
}

impl Documents {
    /// Batches of `rows` windows of `window_tokens` inputs, packed and shuffled by `seed`.
    ///
    /// # Errors
    /// There is not enough text for one window.
    pub fn windows(&self, window_tokens: usize, rows: usize, seed: u64) -> Result<PackedWindows> {
        PackedWindows::new(self.clone(), window_tokens, rows, seed)
    }

    /// Windows for evaluation, in order and within documents: each holds 2 to `window_tokens`
    /// tokens, inputs and targets together, and all of them at most `max_tokens`.
    #[must_use]
    pub fn evaluation_windows(
        &self,
        window_tokens: usize,
        max_tokens: usize,
        spread: Spread,
    ) -> Vec<EvaluationWindow> {
        evaluation_windows(self, window_tokens, max_tokens, spread)
    }
}

impl PackedWindows {
    pub(super) fn new(
        documents: Documents,
        window_tokens: usize,
        rows: usize,
        seed: u64,
    ) -> Result<Self> {
        if window_tokens == 0 || rows == 0 {
            return Err(Error::input(format!(
                "a batch of {rows} windows of {window_tokens} tokens is empty: \
                 expected 1 or more of both"
            )));
        }
        let separators = usize::from(documents.separator.is_some());
        let mut starts = vec![0];
        let mut end = 0;
        for span in documents.spans.iter() {
            end += span.tokens() + separators;
            starts.push(end);
        }
        let windows = (end.saturating_sub(1) / window_tokens) as u64;
        if windows == 0 {
            return Err(Error::input(format!(
                "the {} split has {end} tokens in {} documents, but one window of \
                 {window_tokens} tokens and its last target need {}",
                documents.name,
                documents.len(),
                window_tokens.saturating_add(1)
            ))
            .hint("give it more text, or shorten the windows: data.window_tokens"));
        }
        Ok(Self { documents, starts, window_tokens, rows, windows, seed })
    }

    /// Windows that are read before one is read again.
    #[must_use]
    pub fn windows_per_epoch(&self) -> u64 {
        self.windows
    }

    /// The T + 1 tokens of a window, by its place in the packed stream.
    fn window(&self, window: u64) -> Vec<u32> {
        let length = self.window_tokens + 1;
        let start = window as usize * self.window_tokens;
        let mut tokens = Vec::with_capacity(length);
        let mut document = self.starts.partition_point(|first| *first <= start) - 1;
        let mut skipped = start - self.starts[document];
        while tokens.len() < length {
            let span = self.documents.spans[document];
            let from = span.end.min(span.start + skipped);
            let to = span.end.min(from + length - tokens.len());
            self.documents.tokens.read(from..to, &mut tokens);
            if tokens.len() < length {
                tokens.extend(self.documents.separator);
            }
            document += 1;
            skipped = 0;
        }
        tokens
    }
}

impl Batches for PackedWindows {
    fn batch(&self, index: u64) -> Result<Batch> {
        let (rows, columns) = (self.rows, self.window_tokens);
        let mut inputs = Vec::with_capacity(rows * columns);
        let mut targets = Vec::with_capacity(rows * columns);
        for row in 0..rows as u64 {
            let sample = u128::from(index) * rows as u128 + u128::from(row);
            let epoch = (sample / u128::from(self.windows)) as u64;
            let place = (sample % u128::from(self.windows)) as u64;
            let window = Permutation::new(self.windows, self.seed, epoch).at(place);
            let tokens = self.window(window);
            inputs.extend_from_slice(&tokens[..columns]);
            targets.extend_from_slice(&tokens[1..]);
        }
        Ok(Batch { inputs, targets, rows, columns, ..Batch::default() })
    }
}

/// Tokens of one document, each but the first predicted from those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationWindow {
    /// The document it is part of, by its place in the split.
    pub document: usize,
    /// Two tokens or more.
    pub tokens: Vec<u32>,
}

/// Which documents are evaluated when not all fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// The first ones, each to its end.
    InOrder,
    /// As many as possible, in turns of one window, so that an interval over documents has
    /// documents to draw from; a fixed random choice where not even that fits.
    EvenOverDocuments,
}

/// A piece of a document, before its tokens are read.
struct Chunk {
    document: usize,
    start: usize,
    end: usize,
}

fn evaluation_windows(
    documents: &Documents,
    window_tokens: usize,
    max_tokens: usize,
    spread: Spread,
) -> Vec<EvaluationWindow> {
    let mut chosen = match spread {
        Spread::InOrder => {
            let chunks = |(document, span)| chunks_of(document, span, window_tokens);
            within(documents.spans.iter().copied().enumerate().flat_map(chunks), max_tokens)
        }
        Spread::EvenOverDocuments => within(in_turns(documents, window_tokens), max_tokens),
    };
    chosen.sort_by_key(|chunk| chunk.start);
    let read = |chunk: Chunk| {
        let mut tokens = Vec::with_capacity(chunk.end - chunk.start);
        documents.tokens.read(chunk.start..chunk.end, &mut tokens);
        EvaluationWindow { document: chunk.document, tokens }
    };
    chosen.into_iter().map(read).collect()
}

/// Pieces of `window_tokens` tokens; the last may be shorter, but predicts something.
fn chunks_of(document: usize, span: Span, window_tokens: usize) -> impl Iterator<Item = Chunk> {
    let starts = (span.start..span.end).step_by(window_tokens.max(1));
    starts
        .map(move |start| Chunk { document, start, end: span.end.min(start + window_tokens) })
        .filter(|chunk| chunk.end - chunk.start >= 2)
}

/// The first window of every document, then the second of every one that has it, and so on.
fn in_turns(documents: &Documents, window_tokens: usize) -> impl Iterator<Item = Chunk> {
    let count = documents.len() as u64;
    let order = Permutation::new(count, 0, 0);
    let mut waiting: Vec<_> = (0..count)
        .map(|place| order.at(place) as usize)
        .map(|document| chunks_of(document, documents.spans[document], window_tokens))
        .collect();
    let mut turn = Vec::new().into_iter();
    std::iter::from_fn(move || {
        loop {
            if let Some(chunk) = turn.next() {
                return Some(chunk);
            }
            let mut next = Vec::with_capacity(waiting.len());
            waiting.retain_mut(|chunks| chunks.next().map(|chunk| next.push(chunk)).is_some());
            if next.is_empty() {
                return None;
            }
            turn = next.into_iter();
        }
    })
}

/// Chunks until the budget is spent; the last one is shortened to it.
fn within(chunks: impl Iterator<Item = Chunk>, max_tokens: usize) -> Vec<Chunk> {
    let mut left = max_tokens;
    let mut chosen = Vec::new();
    for chunk in chunks {
        if left < 2 {
            break;
        }
        let end = chunk.end.min(chunk.start + left);
        left -= end - chunk.start;
        chosen.push(Chunk { end, ..chunk });
    }
    chosen
}
