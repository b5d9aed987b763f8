//! Which part of a text that still grows can be shown already?

use crate::data::Tokenizer;
use crate::error::Result;

/// Tokens of the prompt that are decoded with the first ones after it: some decoders drop the
/// space before the first word of a text.
const CONTEXT: usize = 6;

/// Tokens to text, piece by piece; what was given is never taken back.
pub(super) struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    stop: &'a [String],
    ids: Vec<u32>,
    /// Decoding starts here, and the text before `shown` is known.
    start: usize,
    shown: usize,
    /// Decoded, but perhaps the beginning of a text to stop at.
    held: String,
}

impl<'a> Stream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, prompt: &[u32], stop: &'a [String]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        Self { tokenizer, stop, start: 0, shown: ids.len(), ids, held: String::new() }
    }

    /// Adds a token. Gives the text that is certain now, and whether a text to stop at was met.
    pub(super) fn push(&mut self, id: u32) -> Result<(String, bool)> {
        self.ids.push(id);
        let text = self.undecided()?;
        // The beginning of a character of several tokens.
        if text.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok((String::new(), false));
        }
        self.start = self.shown;
        self.shown = self.ids.len();
        self.held.push_str(&text);
        Ok(self.release())
    }

    /// What is left when no token follows.
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

    /// Takes what cannot be part of a text to stop at from the held text.
    fn release(&mut self) -> (String, bool) {
        let met = self.stop.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(place) = met {
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
