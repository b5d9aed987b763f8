//! The decoding cache: keys and values by layer, repetition and position, and the states that stopped
//! tokens continue from.

use std::ops::Range;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pass::TokenPosition;
use crate::error::{Error, Result};
use crate::nn::CachedKeys;

/// The keys and values that a token at repetition r attends to of a token that stopped after s
/// repetitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheSharing {
    /// Those of repetition r: a token that stopped before is continued now, in one batch with the
    /// token that reads it, as in training. Bae et al. 2023 (FREE).
    #[default]
    CatchUp,
    /// Those of repetition r, or of its last one if it stopped before. Geiping et al. 2025.
    Last,
    /// Those of repetition r, or none if it stopped before, as in mixture of recursions. Bae et al.
    /// 2025.
    Own,
    /// As `Last`, with so many of its last repetitions cached and the others evicted: memory does not
    /// grow with the depth. Tokens of a sequence are read one at a time.
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
            _ => Err(Error::input(format!("`{text}` is not a way to share the cache"))
                .hint("expected catch-up, last, own, or window=<repetitions from 1>")),
        }
    }
}

/// The index of a missing record.
const NONE: u32 = u32::MAX;

/// Keys and values of one layer for one sequence.
#[derive(Debug, Clone, Default)]
pub(super) struct LayerRecords {
    /// (records, kv heads, head width).
    keys: Vec<f32>,
    values: Vec<f32>,
    /// The record of each position, by repetition counted from 0.
    slots: Vec<Vec<u32>>,
    /// Records that no slot refers to.
    free: Vec<u32>,
}

impl LayerRecords {
    /// Writes the key and the value of a token at `repetition`, counted from 1.
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

    /// All keys and values, for a token that attends to the records `visible`.
    pub(super) fn keys<'a>(&'a self, visible: &'a [u32]) -> CachedKeys<'a> {
        CachedKeys { keys: &self.keys, values: &self.values, visible }
    }

    fn evict(&mut self, repetitions: Range<usize>, positions: Range<usize>) {
        let end = repetitions.end.min(self.slots.len());
        for slot in &mut self.slots[repetitions.start.min(end)..end] {
            let (start, end) = (positions.start.min(slot.len()), positions.end.min(slot.len()));
            let records = slot[start..end].iter_mut().filter(|record| **record != NONE);
            self.free.extend(records.map(|record| std::mem::replace(record, NONE)));
        }
    }
}

/// The cache of one sequence.
#[derive(Debug, Clone, Default)]
pub(super) struct SequenceCache {
    pub(super) layers: Vec<LayerRecords>,
    /// Repetitions of each token so far.
    pub(super) repetitions: Vec<usize>,
    /// The state of each token and its state after the prelude, (tokens, D), from which a stopped
    /// token is continued. Empty unless tokens catch up.
    states: Vec<f32>,
    prelude_states: Vec<f32>,
}

/// Stopped tokens that are to be continued, with their states, (tokens, D).
#[derive(Default)]
pub(super) struct StoppedTokens {
    pub(super) positions: Vec<TokenPosition>,
    pub(super) states: Vec<f32>,
    pub(super) prelude_states: Vec<f32>,
}

impl StoppedTokens {
    fn push(&mut self, token: TokenPosition, sequence: &SequenceCache, width: usize) {
        let row = token.position * width..(token.position + 1) * width;
        self.positions.push(token);
        self.states.extend_from_slice(&sequence.states[row.clone()]);
        self.prelude_states.extend_from_slice(&sequence.prelude_states[row]);
    }
}

/// Keys and values of the sequences read so far, by layer and repetition.
#[derive(Debug, Clone)]
pub struct DecodeCache {
    pub(super) sequences: Vec<SequenceCache>,
    pub(super) sharing: CacheSharing,
}

impl DecodeCache {
    /// An empty cache for `sequences` sequences.
    pub(super) fn new(sequences: usize, layers: usize, sharing: CacheSharing) -> Self {
        let layers = vec![LayerRecords::default(); layers];
        let empty = SequenceCache { layers, ..SequenceCache::default() };
        Self { sequences: vec![empty; sequences], sharing }
    }

    /// Tokens of `sequence` read so far.
    #[must_use]
    pub fn tokens(&self, sequence: usize) -> usize {
        self.sequences[sequence].repetitions.len()
    }

    /// Repetitions computed for each token of `sequence`.
    #[must_use]
    pub fn repetitions(&self, sequence: usize) -> &[usize] {
        &self.sequences[sequence].repetitions
    }

    /// Bytes of all keys, values and states.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let layers = self.sequences.iter().flat_map(|sequence| &sequence.layers);
        let records: usize = layers.map(|layer| layer.keys.len() + layer.values.len()).sum();
        let sequences = self.sequences.iter();
        let states: usize = sequences.map(|s| s.states.len() + s.prelude_states.len()).sum();
        4 * (records + states)
    }

    /// Removes all tokens of `sequence` but the first `tokens`.
    pub fn truncate(&mut self, sequence: usize, tokens: usize) {
        let cache = &mut self.sequences[sequence];
        let end = cache.repetitions.len();
        for layer in &mut cache.layers {
            layer.evict(0..usize::MAX, tokens..end);
        }
        let width = cache.states.len() / end.max(1);
        cache.states.truncate(tokens * width);
        cache.prelude_states.truncate(tokens * width);
        cache.repetitions.truncate(tokens);
    }

    /// The stopped tokens that must be continued to `repetition`, counted from 1, before `readers`
    /// attend to them; `readers` are in ascending order.
    pub(super) fn tokens_to_catch_up(
        &self,
        readers: &[TokenPosition],
        repetition: usize,
        width: usize,
    ) -> StoppedTokens {
        let mut tokens = StoppedTokens::default();
        if self.sharing != CacheSharing::CatchUp || repetition == 1 {
            return tokens;
        }
        for (index, cache) in self.sequences.iter().enumerate() {
            let own_readers = readers.iter().filter(|token| token.sequence == index);
            let Some(last) = own_readers.map(|token| token.position).max() else { continue };
            for position in 0..last {
                let is_behind = cache.repetitions[position] + 1 == repetition;
                let token = TokenPosition { sequence: index, position };
                if is_behind && readers.binary_search(&token).is_err() {
                    tokens.push(token, cache, width);
                }
            }
        }
        tokens
    }

    /// The tokens of `sequence` from position `first` on.
    pub(super) fn tokens_from(&self, sequence: usize, first: usize) -> StoppedTokens {
        let cache = &self.sequences[sequence];
        let width = cache.states.len() / cache.repetitions.len().max(1);
        let mut tokens = StoppedTokens::default();
        for position in first..cache.repetitions.len() {
            tokens.push(TokenPosition { sequence, position }, cache, width);
        }
        tokens
    }

    /// Repetitions computed for one token.
    pub(super) fn computed(&self, token: TokenPosition) -> usize {
        self.sequences[token.sequence].repetitions[token.position]
    }

    /// Stores the states of tokens after `repetition`, (tokens, D), to continue from; 0 stands for the
    /// prelude.
    pub(super) fn store_states(
        &mut self,
        tokens: &[TokenPosition],
        states: &[f32],
        repetition: usize,
    ) {
        if self.sharing != CacheSharing::CatchUp {
            return;
        }
        let width = states.len() / tokens.len().max(1);
        for (token, state) in tokens.iter().zip(states.chunks_exact(width.max(1))) {
            let cache = &mut self.sequences[token.sequence];
            let stored =
                if repetition == 0 { &mut cache.prelude_states } else { &mut cache.states };
            let end = (token.position + 1) * width;
            if stored.len() < end {
                stored.resize(end, 0.0);
            }
            stored[end - width..end].copy_from_slice(state);
        }
    }

    /// Evicts the records of a stopped token that no later token reads; `core` are the indices of the
    /// core's layers.
    pub(super) fn evict_stopped(&mut self, sequence: usize, position: usize, core: Range<usize>) {
        if let CacheSharing::Window(size) = self.sharing {
            let cache = &mut self.sequences[sequence];
            let first = cache.repetitions[position].saturating_sub(size);
            for layer in &mut cache.layers[core] {
                layer.evict(0..first, position..position + 1);
            }
        }
    }

    /// The records of `layer` at `positions` that a token at `repetition` attends to: counted from 1
    /// in the core, none in layers that are applied once.
    pub(super) fn visible(
        &self,
        sequence: usize,
        layer: usize,
        repetition: Option<usize>,
        positions: Range<usize>,
    ) -> Vec<u32> {
        let cache = &self.sequences[sequence];
        let records = &cache.layers[layer];
        let Some(repetition) = repetition else {
            return positions.filter_map(|position| records.record(1, position)).collect();
        };
        let record = |position: usize| {
            let stopped = cache.repetitions[position];
            let source = match self.sharing {
                CacheSharing::CatchUp | CacheSharing::Last => repetition.min(stopped),
                CacheSharing::Own => repetition,
                CacheSharing::Window(size) => {
                    repetition.max((stopped + 1).saturating_sub(size)).min(stopped)
                }
            };
            records.record(source, position)
        };
        positions.filter_map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One core layer, and tokens that stopped after 3, 1 and 2 repetitions; each key is
    /// 10 position + repetition.
    fn cache(sharing: CacheSharing) -> DecodeCache {
        let mut cache = DecodeCache::new(1, 1, sharing);
        for (position, stopped) in [3, 1, 2].into_iter().enumerate() {
            cache.sequences[0].repetitions.push(stopped);
            for r in 1..=stopped {
                let key = [(10 * position + r) as f32];
                cache.sequences[0].layers[0].write(r, position, &key, &key);
            }
            cache.evict_stopped(0, position, 0..1);
        }
        cache
    }

    fn visible_keys(cache: &DecodeCache, repetition: usize) -> Vec<f32> {
        let records = cache.visible(0, 0, Some(repetition), 0..cache.tokens(0));
        records
            .into_iter()
            .map(|record| cache.sequences[0].layers[0].keys[record as usize])
            .collect()
    }

    #[test]
    fn each_kind_of_sharing_attends_to_its_records() {
        let last = cache(CacheSharing::Last);
        assert_eq!(visible_keys(&last, 1), [1.0, 11.0, 21.0]);
        assert_eq!(visible_keys(&last, 2), [2.0, 11.0, 22.0]);
        assert_eq!(visible_keys(&last, 9), [3.0, 11.0, 22.0]);
        let own = cache(CacheSharing::Own);
        assert_eq!(visible_keys(&own, 2), [2.0, 22.0]);
        assert_eq!(visible_keys(&own, 3), [3.0]);
        let window = cache(CacheSharing::Window(2));
        assert_eq!(visible_keys(&window, 1), [2.0, 11.0, 21.0]);
        assert_eq!(visible_keys(&window, 2), [2.0, 11.0, 22.0]);
        assert_eq!(visible_keys(&window, 3), [3.0, 11.0, 22.0]);
    }

    #[test]
    fn evicted_records_are_reused() {
        let mut cache = cache(CacheSharing::Window(1));
        // Six records were written, at most five are allocated: evicted ones were reused.
        assert!(cache.bytes() <= 2 * 4 * 5, "{}", cache.bytes());
        assert_eq!(visible_keys(&cache, 1), [3.0, 11.0, 22.0]);
        let bytes = cache.bytes();
        cache.truncate(0, 1);
        assert_eq!((cache.tokens(0), visible_keys(&cache, 2)), (1, vec![3.0]));
        cache.sequences[0].repetitions.push(1);
        cache.sequences[0].layers[0].write(1, 1, &[7.0], &[7.0]);
        assert_eq!((visible_keys(&cache, 1), cache.bytes()), (vec![3.0, 7.0], bytes));
    }

    #[test]
    fn sharing_is_parsed() {
        assert_eq!("window=2".parse::<CacheSharing>().unwrap(), CacheSharing::Window(2));
        assert!("window=0".parse::<CacheSharing>().is_err());
        assert!("all".parse::<CacheSharing>().is_err());
    }
}
