//! Tokenisation of files into the cache, with bounded memory.

use rayon::prelude::*;

use super::cache::Writer;
use super::encode::Encode;
use super::files::SourceFile;
use super::read::each_document;
use crate::context::Context;
use crate::error::{Error, Result};

/// Text that is in memory at once, unless a single document is longer.
const BATCH_BYTES: usize = 16 << 20;
/// Documents longer than this are cut for the tokenizer, whose working memory is many times
/// the text.
const PIECE_BYTES: usize = 1 << 18;
/// Pieces tokenised between two writes.
const PIECES: usize = 512;
/// When the user wants it to end: nothing is kept, the text is read again.
pub(super) const STOPPED: &str = "while the text was tokenised";

/// Stores the tokens of every document of `files`, in order.
pub(super) fn tokenise(
    files: &[SourceFile],
    field: &str,
    tokenizer: &dyn Encode,
    writer: &mut Writer,
    context: &Context,
) -> Result<()> {
    context.begin("tokenise", files.iter().map(|file| file.bytes).sum(), "bytes");
    let mut done = 0;
    let mut result = Ok(());
    for (number, file) in files.iter().enumerate() {
        let number = number as u32;
        let mut task = Task { tokenizer, writer, context, file, number, done };
        result = task.run(field);
        if result.is_err() {
            break;
        }
        done += file.bytes;
    }
    context.end();
    result
}

/// One file on its way.
struct Task<'a> {
    tokenizer: &'a dyn Encode,
    writer: &'a mut Writer,
    context: &'a Context,
    file: &'a SourceFile,
    number: u32,
    /// Bytes of the files before this one.
    done: u64,
}

impl Task<'_> {
    fn run(&mut self, field: &str) -> Result<()> {
        let (mut batch, mut held, mut seen) = (Vec::new(), 0, 0);
        let file = self.file;
        each_document(file, field, &mut |text: String| {
            held += text.len();
            seen += text.len() as u64;
            batch.push(text);
            self.context.check_cancelled(STOPPED)?;
            if held >= BATCH_BYTES {
                held = 0;
                self.store(&std::mem::take(&mut batch), seen)?;
            }
            Ok(())
        })?;
        self.store(&batch, seen)
    }

    /// Stores complete documents; `seen` bytes of text of this file were read.
    fn store(&mut self, documents: &[String], seen: u64) -> Result<()> {
        let pieces: Vec<Piece> = documents.iter().flat_map(|text| pieces(text)).collect();
        for some in pieces.chunks(PIECES) {
            let encode = |piece: &Piece| {
                self.context.check_cancelled(STOPPED)?;
                let tokens = encode(self.tokenizer, piece.text);
                tokens.map_err(|error| error.at(self.file.path.display()))
            };
            let tokens = some.par_iter().map(encode).collect::<Result<Vec<_>>>()?;
            for (piece, tokens) in some.iter().zip(tokens) {
                self.writer.push(&tokens)?;
                if let Some(document) = piece.last_of {
                    self.writer.end_document(self.number, content_hash(document));
                }
            }
        }
        // JSON and Parquet files hold more or fewer bytes than their text.
        let done = self.done + seen.min(self.file.bytes);
        self.context.advance(done, &format!("{} tokens", self.writer.tokens()));
        Ok(())
    }
}

fn encode(tokenizer: &dyn Encode, text: &str) -> Result<Vec<u32>> {
    let tokens = tokenizer.encode(text)?;
    let vocabulary = tokenizer.vocabulary();
    match tokens.iter().find(|token| **token as usize >= vocabulary) {
        None => Ok(tokens),
        Some(token) => Err(Error::input(format!(
            "the tokenizer gave token {token}, but its vocabulary has {vocabulary} tokens"
        ))),
    }
}

/// The tokens of one text, the same that the cache would hold.
pub(super) fn encode_document(tokenizer: &dyn Encode, text: &str) -> Result<Vec<u32>> {
    let pieces = pieces(text);
    let tokens = pieces.par_iter().map(|piece| encode(tokenizer, piece.text));
    Ok(tokens.collect::<Result<Vec<_>>>()?.concat())
}

/// The first 64 bits of the blake3 hash of a text, by which documents are split.
pub(super) fn content_hash(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    let first = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}

/// A part of a document that is tokenised by itself.
struct Piece<'a> {
    text: &'a str,
    /// The complete document, when this is its last piece.
    last_of: Option<&'a str>,
}

/// A document in pieces; nearly every document is one.
fn pieces(document: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = document;
    while rest.len() > PIECE_BYTES {
        let (text, after) = rest.split_at(cut(rest));
        pieces.push(Piece { text, last_of: None });
        rest = after;
    }
    pieces.push(Piece { text: rest, last_of: Some(document) });
    pieces
}

/// The last place before [`PIECE_BYTES`] where a space follows a letter or digit: byte-level
/// tokenizers start a new word there anyway, so cutting changes nothing.
fn cut(text: &str) -> usize {
    let bytes = text.as_bytes();
    let between_words = |place: &usize| {
        bytes[place - 1].is_ascii_alphanumeric() && matches!(bytes[*place], b' ' | b'\n')
    };
    let word = (PIECE_BYTES / 2..=PIECE_BYTES).rev().find(between_words);
    let character = || (1..=PIECE_BYTES).rev().find(|place| text.is_char_boundary(*place));
    word.or_else(character).expect("a character has at most four bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_document_are_the_document() {
        for unit in ["a word and another\n", "字", "x"] {
            let document = unit.repeat(3 * PIECE_BYTES / unit.len() + 5);
            let pieces = pieces(&document);
            assert!(pieces.len() > 2);
            assert!(pieces.iter().all(|piece| piece.text.len() <= PIECE_BYTES));
            assert_eq!(pieces.iter().map(|piece| piece.text).collect::<String>(), document);
            assert_eq!(pieces.iter().filter(|piece| piece.last_of.is_some()).count(), 1);
        }
    }
}
