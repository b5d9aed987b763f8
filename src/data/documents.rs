//! The documents of one split, as spans of a shared token array.

use std::sync::Arc;

use rayon::prelude::*;

use super::encode::Encode;
use super::mapped::Tokens;
use super::read::Document;
use super::tokenise::encode_document;
use crate::error::Result;

/// Where a document lies among the tokens of its corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Its place among the sources.
    pub(super) file: u32,
}

impl Span {
    pub(super) fn tokens(self) -> usize {
        self.end - self.start
    }
}

/// Tokenised documents in a fixed order. Cheap to clone: the tokens are shared.
#[derive(Debug, Clone)]
pub struct Documents {
    pub(super) name: &'static str,
    pub(super) tokens: Arc<Tokens>,
    pub(super) spans: Arc<[Span]>,
    pub(super) sources: Arc<[String]>,
    /// The token between packed documents.
    pub(super) separator: Option<u32>,
}

impl Documents {
    /// Documents that were read for one use, with their tokens in memory; those without a token
    /// are left out.
    ///
    /// # Errors
    /// A text cannot be tokenised.
    pub fn encode(documents: &[Document], tokenizer: &dyn Encode) -> Result<Self> {
        let encoded = documents
            .par_iter()
            .map(|document| {
                let tokens = encode_document(tokenizer, &document.text);
                tokens.map_err(|error| error.at(&document.source))
            })
            .collect::<Result<Vec<_>>>()?;
        let (mut all, mut spans) = (Vec::new(), Vec::new());
        for (file, tokens) in encoded.iter().enumerate().filter(|(_, tokens)| !tokens.is_empty()) {
            let start = all.len();
            all.extend_from_slice(tokens);
            spans.push(Span { start, end: all.len(), file: file as u32 });
        }
        Ok(Self {
            name: "given text",
            tokens: Arc::new(Tokens::Memory(all)),
            spans: spans.into(),
            sources: documents.iter().map(|document| document.source.clone()).collect(),
            separator: tokenizer.document_end(),
        })
    }

    /// How many documents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// No document fell into this split.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Tokens of all documents, without the separators that packing puts between them.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.spans.iter().map(|span| span.tokens()).sum()
    }

    /// The tokens of a document; `index` is below [`Documents::len`].
    #[must_use]
    pub fn document(&self, index: usize) -> Vec<u32> {
        let span = self.spans[index];
        let mut tokens = Vec::with_capacity(span.tokens());
        self.tokens.read(span.start..span.end, &mut tokens);
        tokens
    }

    /// The file a document was in; `index` is below [`Documents::len`].
    #[must_use]
    pub fn source(&self, index: usize) -> &str {
        &self.sources[self.spans[index].file as usize]
    }
}
