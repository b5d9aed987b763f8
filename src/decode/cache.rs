//! What is kept of the tokens read so far?

use std::ops::Range;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pass::Place;
use crate::error::{Error, Result};

/// What a token at repetition r reads of a token that stopped after s repetitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheSharing {
    /// Its repetition r: if it stopped before, it is taken further now, together with the token
    /// that asks, as in training. The weights are read once for all of them. Bae et al. 2023
    /// (FREE).
    #[default]
    CatchUp,
    /// Its repetition r, or its last one if it stopped before. Geiping et al. 2025.
    Last,
    /// Its repetition r, or nothing if it stopped before: as in mixture of recursions. Bae et al.
    /// 2025.
    Own,
    /// As `Last`, of its last repetitions only, so many; the others are forgotten. Memory does not
    /// grow with the depth; tokens are read one after the other.
    Window(usize),
}

impl FromStr for CacheSharing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let window = text.strip_prefix("window=").and_then(|count| count.parse().ok());
        match (text, window) {
            ("catch-up", _) => Ok(Self::CatchUp),
            ("last", _) => Ok(Self::Last),
            ("own", _) => Ok(Self::Own),
            (_, Some(count)) if count > 0 => Ok(Self::Window(count)),
            _ => Err(Error::input(format!("`{text}` is no way to share the cache"))
                .hint("expected catch-up, last, own, or window=<repetitions from 1>")),
        }
    }
}

/// No record.
const NONE: u32 = u32::MAX;

/// Keys and values of one layer, of one text.
#[derive(Debug, Clone, Default)]
pub(super) struct LayerRecords {
    /// (records, kv heads, head width).
    keys: Vec<f32>,
    values: Vec<f32>,
    /// The record of a position, by repetition from 0.
    slots: Vec<Vec<u32>>,
    /// Records that nothing points to.
    free: Vec<u32>,
}

impl LayerRecords {
    /// Keeps, or replaces, what a token has at `repetition`, from 1.
    pub(super) fn write(&mut self, repetition: usize, position: usize, key: &[f32], value: &[f32]) {
        if self.slots.len() < repetition {
            self.slots.resize_with(repetition, Vec::new);
        }
        let slot = &mut self.slots[repetition - 1];
        if slot.len() <= position {
            slot.resize(position + 1, NONE);
        }
        if slot[position] == NONE {
            slot[position] = self.free.pop().unwrap_or_else(|| {
                let record = self.keys.len() / key.len();
                self.keys.resize(self.keys.len() + key.len(), 0.0);
                self.values.resize(self.values.len() + key.len(), 0.0);
                record as u32
            });
        }
        let start = slot[position] as usize * key.len();
        self.keys[start..start + key.len()].copy_from_slice(key);
        self.values[start..start + key.len()].copy_from_slice(value);
    }

    fn record(&self, repetition: usize, position: usize) -> Option<u32> {
        let record = *self.slots.get(repetition - 1)?.get(position)?;
        (record != NONE).then_some(record)
    }

    /// The key and the value of a record, each (kv heads, head width).
    #[inline(always)]
    pub(super) fn at(&self, record: u32, width: usize) -> (&[f32], &[f32]) {
        let start = record as usize * width;
        (&self.keys[start..start + width], &self.values[start..start + width])
    }

    fn forget(&mut self, repetitions: Range<usize>, positions: Range<usize>) {
        let end = repetitions.end.min(self.slots.len());
        for slot in &mut self.slots[repetitions.start.min(end)..end] {
            let (start, end) = (positions.start.min(slot.len()), positions.end.min(slot.len()));
            let records = slot[start..end].iter_mut().filter(|record| **record != NONE);
            self.free.extend(records.map(|record| std::mem::replace(record, NONE)));
        }
    }
}

/// One text.
#[derive(Debug, Clone, Default)]
pub(super) struct Text {
    pub(super) layers: Vec<LayerRecords>,
    /// Repetitions of each token, so far.
    pub(super) repetitions: Vec<usize>,
    /// Where a token that stopped can be taken further from, (tokens, D): its state, and that
    /// after the prelude. Empty when none ever is.
    states: Vec<f32>,
    starts: Vec<f32>,
}

/// Tokens that stopped before, and what they go on from.
#[derive(Default)]
pub(super) struct Lagging {
    pub(super) places: Vec<Place>,
    pub(super) states: Vec<f32>,
    pub(super) starts: Vec<f32>,
}

impl Lagging {
    fn add(&mut self, place: Place, text: &Text, width: usize) {
        let row = place.position * width..(place.position + 1) * width;
        self.places.push(place);
        self.states.extend_from_slice(&text.states[row.clone()]);
        self.starts.extend_from_slice(&text.starts[row]);
    }
}

/// Keys and values of the texts read so far, by layer and repetition.
#[derive(Debug, Clone)]
pub struct DecodeCache {
    pub(super) texts: Vec<Text>,
    pub(super) sharing: CacheSharing,
}

impl DecodeCache {
    /// For `texts` texts, nothing read yet.
    pub(super) fn new(texts: usize, layers: usize, sharing: CacheSharing) -> Self {
        let text = Text { layers: vec![LayerRecords::default(); layers], ..Text::default() };
        Self { texts: vec![text; texts], sharing }
    }

    /// Tokens of `text` read so far.
    #[must_use]
    pub fn tokens(&self, text: usize) -> usize {
        self.texts[text].repetitions.len()
    }

    /// Repetitions that were computed of each token of `text`.
    #[must_use]
    pub fn repetitions(&self, text: usize) -> &[usize] {
        &self.texts[text].repetitions
    }

    /// Numbers that are kept, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let layers = self.texts.iter().flat_map(|text| &text.layers);
        let records: usize = layers.map(|layer| layer.keys.len() + layer.values.len()).sum();
        let states: usize = self.texts.iter().map(|t| t.states.len() + t.starts.len()).sum();
        4 * (records + states)
    }

    /// Forgets all tokens of `text` but the first `tokens`.
    pub fn truncate(&mut self, text: usize, tokens: usize) {
        let text = &mut self.texts[text];
        let end = text.repetitions.len();
        for layer in &mut text.layers {
            layer.forget(0..usize::MAX, tokens..end);
        }
        let width = text.states.len() / end.max(1);
        text.states.truncate(tokens * width);
        text.starts.truncate(tokens * width);
        text.repetitions.truncate(tokens);
    }

    /// Tokens that must be taken through `repetition`, from 1, before those at `places`, which rise,
    /// read them.
    pub(super) fn lagging(&self, places: &[Place], repetition: usize, width: usize) -> Lagging {
        let mut found = Lagging::default();
        if self.sharing != CacheSharing::CatchUp || repetition == 1 {
            return found;
        }
        for (index, text) in self.texts.iter().enumerate() {
            let asking = places.iter().filter(|place| place.text == index);
            let Some(last) = asking.map(|place| place.position).max() else { continue };
            for position in 0..last {
                let behind = text.repetitions[position] + 1 == repetition;
                let place = Place { text: index, position };
                if behind && places.binary_search(&place).is_err() {
                    found.add(place, text, width);
                }
            }
        }
        found
    }

    /// The tokens of `text` from position `first` on.
    pub(super) fn from(&self, text: usize, first: usize) -> Lagging {
        let (index, text) = (text, &self.texts[text]);
        let width = text.states.len() / text.repetitions.len().max(1);
        let mut found = Lagging::default();
        for position in first..text.repetitions.len() {
            found.add(Place { text: index, position }, text, width);
        }
        found
    }

    /// Repetitions that were computed of one token.
    pub(super) fn computed(&self, place: Place) -> usize {
        self.texts[place.text].repetitions[place.position]
    }

    /// Keeps the states of tokens, (tokens, D), to go on from later.
    pub(super) fn keep(&mut self, places: &[Place], states: &[f32], repetition: usize) {
        if self.sharing != CacheSharing::CatchUp {
            return;
        }
        let width = states.len() / places.len().max(1);
        for (place, state) in places.iter().zip(states.chunks_exact(width.max(1))) {
            let text = &mut self.texts[place.text];
            let kept = if repetition == 0 { &mut text.starts } else { &mut text.states };
            let end = (place.position + 1) * width;
            if kept.len() < end {
                kept.resize(end, 0.0);
            }
            kept[end - width..end].copy_from_slice(state);
        }
    }

    /// Forgets what no later token will read of a token that is done; layers of the core are given
    /// by number.
    pub(super) fn settle(&mut self, text: usize, position: usize, core: Range<usize>) {
        if let CacheSharing::Window(kept) = self.sharing {
            let text = &mut self.texts[text];
            let first = text.repetitions[position].saturating_sub(kept);
            for layer in &mut text.layers[core] {
                layer.forget(0..first, position..position + 1);
            }
        }
    }

    /// The records of `layer` that a token at `repetition` reads at `positions`, of layers that
    /// every token passes once (`None`) or of the core, from 1.
    pub(super) fn seen(
        &self,
        text: usize,
        layer: usize,
        repetition: Option<usize>,
        positions: Range<usize>,
    ) -> Vec<u32> {
        let text = &self.texts[text];
        let records = &text.layers[layer];
        let Some(r) = repetition else {
            return positions.filter_map(|position| records.record(1, position)).collect();
        };
        let record = |position: usize| {
            let stopped = text.repetitions[position];
            let of = match self.sharing {
                CacheSharing::CatchUp | CacheSharing::Last => r.min(stopped),
                CacheSharing::Own => r,
                CacheSharing::Window(kept) => {
                    r.max((stopped + 1).saturating_sub(kept)).min(stopped)
                }
            };
            records.record(of, position)
        };
        positions.filter_map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One core layer; tokens that stopped after 3, 1 and 2 repetitions, their keys telling which.
    fn cache(sharing: CacheSharing) -> DecodeCache {
        let mut cache = DecodeCache::new(1, 1, sharing);
        for (position, stopped) in [3, 1, 2].into_iter().enumerate() {
            cache.texts[0].repetitions.push(stopped);
            for r in 1..=stopped {
                let number = [(10 * position + r) as f32];
                cache.texts[0].layers[0].write(r, position, &number, &number);
            }
            cache.settle(0, position, 0..1);
        }
        cache
    }

    fn seen(cache: &DecodeCache, repetition: usize) -> Vec<f32> {
        let records = cache.seen(0, 0, Some(repetition), 0..cache.tokens(0));
        records.into_iter().map(|record| cache.texts[0].layers[0].at(record, 1).0[0]).collect()
    }

    #[test]
    fn each_way_of_sharing_reads_what_it_says() {
        let last = cache(CacheSharing::Last);
        assert_eq!(seen(&last, 1), [1.0, 11.0, 21.0]);
        assert_eq!(seen(&last, 2), [2.0, 11.0, 22.0]);
        assert_eq!(seen(&last, 9), [3.0, 11.0, 22.0]);
        let own = cache(CacheSharing::Own);
        assert_eq!(seen(&own, 2), [2.0, 22.0]);
        assert_eq!(seen(&own, 3), [3.0]);
        let window = cache(CacheSharing::Window(2));
        assert_eq!(seen(&window, 1), [2.0, 11.0, 21.0]);
        assert_eq!(seen(&window, 2), [2.0, 11.0, 22.0]);
        assert_eq!(seen(&window, 3), [3.0, 11.0, 22.0]);
    }

    #[test]
    fn what_is_forgotten_makes_room() {
        let mut cache = cache(CacheSharing::Window(1));
        // Three records of three tokens, though six were written: one was free when it was needed.
        assert!(cache.bytes() <= 2 * 4 * 5, "{}", cache.bytes());
        assert_eq!(seen(&cache, 1), [3.0, 11.0, 22.0]);
        let bytes = cache.bytes();
        cache.truncate(0, 1);
        assert_eq!((cache.tokens(0), seen(&cache, 2)), (1, vec![3.0]));
        cache.texts[0].repetitions.push(1);
        cache.texts[0].layers[0].write(1, 1, &[7.0], &[7.0]);
        assert_eq!((seen(&cache, 1), cache.bytes()), (vec![3.0, 7.0], bytes));
    }

    #[test]
    fn sharing_reads_as_it_is_written() {
        assert_eq!("window=2".parse::<CacheSharing>().unwrap(), CacheSharing::Window(2));
        assert!("window=0".parse::<CacheSharing>().is_err());
        assert!("all".parse::<CacheSharing>().is_err());
    }
}
