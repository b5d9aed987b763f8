//! Streaming: the part of a growing text that is already final.

use crate::data::Tokenizer;
use crate::error::Result;

/// Tokens of the prompt that are decoded with the first ones after it: some tokenizers drop the
/// space at the beginning of a text.
const CONTEXT: usize = 6;

/// Decodes tokens to text, piece by piece; a piece that was returned is final.
pub(super) struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    stop: &'a [String],
    ids: Vec<u32>,
    /// Decoding starts at this token; the text before `shown` is known.
    start: usize,
    shown: usize,
    /// Decoded text that may be the beginning of a stop string.
    held: String,
}

impl<'a> Stream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, prompt: &[u32], stop: &'a [String]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        Self { tokenizer, stop, start: 0, shown: ids.len(), ids, held: String::new() }
    }

    /// Adds a token. Returns the text that is final now, and whether a stop string was met.
    pub(super) fn push(&mut self, id: u32) -> Result<(String, bool)> {
        self.ids.push(id);
        let text = self.undecided()?;
        // The text ends inside a character of several tokens.
        if text.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok((String::new(), false));
        }
        self.start = self.shown;
        self.shown = self.ids.len();
        self.held.push_str(&text);
        Ok(self.release())
    }

    /// The rest of the text when no token follows.
    pub(super) fn finish(mut self) -> Result<String> {
        let text = self.undecided()?;
        self.held.push_str(&text);
        let (mut shown, stopped) = self.release();
        if !stopped {
            shown.push_str(&self.held);
        }
        Ok(shown)
    }

    /// The text of the tokens from `shown` on.
    fn undecided(&self) -> Result<String> {
        let known = self.tokenizer.decode(&self.ids[self.start..self.shown])?;
        let all = self.tokenizer.decode(&self.ids[self.start..])?;
        Ok(all.get(known.len()..).unwrap_or_default().to_owned())
    }

    /// Takes from the held text what cannot be part of a stop string.
    fn release(&mut self) -> (String, bool) {
        let stop_place = self.stop.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(place) = stop_place {
            return (self.held[..place].to_owned(), true);
        }
        let may_begin =
            |place: usize| self.stop.iter().any(|stop| stop.starts_with(&self.held[place..]));
        let mut places = self.held.char_indices().map(|(place, _)| place);
        let end = places.find(|&place| may_begin(place)).unwrap_or(self.held.len());
        let rest = self.held.split_off(end);
        (std::mem::replace(&mut self.held, rest), false)
    }
}
