//! The teacher cache: looks up teacher outputs on disk, and computes and stores what is missing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::config::TeacherCacheConfig;
use super::folder::Folder;
use super::format::{Format, Item, Pieces, RowKey, row_key};
use super::shard::{Draft, Shard, Signature};
use super::sheet::{CachedOutputs, Sheet};
use crate::context::Context;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::losses::TopTokens;
use crate::model::{CausalLm, Transformer, TransformerConfig};

/// Approximate size of a file.
const SHARD_BYTES: u64 = 64 << 20;
/// Positions whose top tokens are computed in one task.
const POSITIONS_PER_TASK: usize = 16;

/// Teacher outputs of rows of tokens, on disk. Missing outputs are computed and rounded to the
/// precision of the cache, so that the results of a run do not depend on the cache's content.
pub struct TeacherCache<'a> {
    format: Format,
    folder: Folder,
    /// None for damaged shards.
    shards: Vec<Option<Shard>>,
    /// Shard and index in it of each row; a row may be in several shards with different items.
    index: HashMap<RowKey, Vec<(usize, usize)>>,
    drafts: BTreeMap<Signature, Draft>,
    draft_bytes: u64,
    writes: bool,
    /// Rows that were complete in the cache.
    hits: u64,
    /// Rows for which the teacher was run.
    misses: u64,
    context: &'a Context,
}

impl fmt::Debug for TeacherCache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.folder.path();
        f.debug_struct("TeacherCache").field("folder", &folder).finish_non_exhaustive()
    }
}

impl<'a> TeacherCache<'a> {
    /// Opens the cache of a teacher of this shape, with outputs at `temperature`. Damaged files are
    /// removed with a warning.
    ///
    /// # Errors
    /// `config` is invalid, or the folder cannot be created.
    pub fn open(
        fingerprint: &str,
        config: TeacherCacheConfig,
        teacher: &TransformerConfig,
        temperature: f32,
        context: &'a Context,
    ) -> Result<Self> {
        config.validate()?;
        let format = Format {
            precision: config.states,
            width: teacher.width,
            layers: teacher.layers,
            vocabulary: teacher.vocabulary,
            top_k: config.top_k.min(teacher.vocabulary),
            temperature,
        };
        let (root, limit_bytes) = (context.cache().join("teacher"), context.cache_limit_bytes());
        let folder = Folder::open(root.clone(), &format.key(fingerprint), limit_bytes)
            .map_err(|error| Error::io("making", &root, &error))?;
        let mut cache = Self {
            format,
            folder,
            shards: Vec::new(),
            index: HashMap::new(),
            drafts: BTreeMap::new(),
            draft_bytes: 0,
            writes: limit_bytes > 0,
            hits: 0,
            misses: 0,
            context,
        };
        for path in cache.folder.shards() {
            // A file that cannot be read may have just been removed; that is not damage.
            let Ok(bytes) = Shard::map(&path) else { continue };
            match Shard::new(&path, bytes, &format) {
                Ok(shard) => cache.add(shard),
                Err(damage) => cache.discard(&path, &damage),
            }
        }
        Ok(cache)
    }

    fn add(&mut self, shard: Shard) {
        for (row, key) in shard.rows().enumerate() {
            self.index.entry(key).or_default().push((self.shards.len(), row));
        }
        self.shards.push(Some(shard));
    }

    fn discard(&self, path: &std::path::Path, damage: &str) {
        self.context.warn(&format!(
            "a file of the teacher's cache is damaged and will be rebuilt: {damage} ({})",
            path.display()
        ));
        // A file that cannot be removed is ignored.
        let _ = std::fs::remove_file(path);
    }

    /// The `wanted` items of every row of `batch`, read or computed. Threads may call this
    /// concurrently. The lock is not held while the teacher runs, because a thread that waits for a
    /// parallel loop of the teacher may execute another call of this function.
    pub(in crate::distill) fn outputs(
        cache: &Mutex<Self>,
        teacher: &Transformer,
        batch: &Batch,
        wanted: &[Item],
    ) -> Result<CachedOutputs> {
        let lock = || cache.lock().unwrap_or_else(PoisonError::into_inner);
        let format = lock().format;
        let mut sheet = Sheet::new(format, batch.rows, batch.columns, wanted);
        for (row, tokens) in batch.inputs.chunks_exact(batch.columns).enumerate() {
            let key = row_key(tokens);
            let mut items = wanted.to_vec();
            {
                let mut cache = lock();
                items.retain(|item| !cache.read(&key, *item, row, batch.columns, &mut sheet));
                *(if items.is_empty() { &mut cache.hits } else { &mut cache.misses }) += 1;
            }
            if !items.is_empty() {
                let computed = format.compute(teacher, tokens, row, items, &mut sheet)?;
                lock().store(key, tokens.len(), &computed);
            }
        }
        sheet.finish(teacher.embedding_and_head().device())
    }

    /// Writes an item of a row into `sheet`; false if it is missing or damaged.
    fn read(
        &mut self,
        key: &RowKey,
        item: Item,
        row: usize,
        tokens: usize,
        sheet: &mut Sheet,
    ) -> bool {
        for (index, shard_row) in self.index.get(key).cloned().unwrap_or_default() {
            let Some(shard) = &self.shards[index] else { continue };
            let pieces = shard.pieces(key, shard_row, item, tokens);
            let written = pieces.and_then(|pieces| match pieces {
                Some(pieces) => sheet.write(row, item, &pieces).map(|()| true),
                None => Ok(false),
            });
            match written {
                Ok(true) => return true,
                Ok(false) => {}
                Err(damage) => {
                    self.discard(&shard.path, &damage);
                    self.shards[index] = None;
                }
            }
        }
        self.drafts.iter().any(|(signature, draft)| {
            let pieces = draft.pieces(&self.format, signature, key, item);
            pieces.is_some_and(|pieces| sheet.write(row, item, &pieces).is_ok())
        })
    }

    /// Adds the computed items of a row to a draft, and writes the largest draft when the drafts are
    /// large enough.
    fn store(&mut self, key: RowKey, tokens: usize, computed: &[(Item, Pieces)]) {
        if !self.writes {
            return;
        }
        let items: Vec<Item> = computed.iter().map(|(item, _)| *item).collect();
        let draft = self.drafts.entry(Signature { tokens, items }).or_default();
        let before = draft.bytes();
        draft.push(key, computed);
        self.draft_bytes += (draft.bytes() - before) as u64;
        // A quarter of the limit, so that a small limit still holds several files.
        if self.draft_bytes >= SHARD_BYTES.min(self.folder.limit_bytes() / 4) {
            let largest = self.drafts.iter().max_by_key(|(_, draft)| draft.bytes());
            if let Some(signature) = largest.map(|(signature, _)| signature.clone()) {
                self.flush(&signature);
            }
        }
    }

    /// Writes a file. If that fails, the run continues without further writes.
    fn flush(&mut self, signature: &Signature) {
        let Some(draft) = self.drafts.remove(signature) else { return };
        self.draft_bytes -= draft.bytes() as u64;
        if !self.folder.make_room(draft.bytes() as u64) {
            return self.stop_writing("the limit of --cache-limit is reached");
        }
        let written = self.folder.publish(|path| draft.write(path, &self.format, signature));
        let mapped = written.and_then(|path| Ok((Shard::map(&path)?, path)));
        let opened = mapped
            .map_err(|error| error.to_string())
            .and_then(|(bytes, path)| Shard::new(&path, bytes, &self.format));
        match opened {
            Ok(shard) => self.add(shard),
            Err(error) => self.stop_writing(&error),
        }
    }

    fn stop_writing(&mut self, why: &str) {
        self.writes = false;
        self.drafts.clear();
        self.draft_bytes = 0;
        self.context.note(&format!(
            "the teacher's cache is read-only from here on: {why}; missing outputs are computed ({})",
            self.folder.path().display()
        ));
    }

    /// Writes the drafts, and notes hits and misses to the observer.
    pub fn close(&mut self) {
        while let Some(signature) = self.drafts.keys().next().cloned() {
            self.flush(&signature);
        }
        self.context.note(&format!(
            "teacher: {} rows from the cache, {} computed; {:.3} GB in {}",
            self.hits,
            self.misses,
            self.folder.bytes() as f64 / 1e9,
            self.folder.path().display()
        ));
    }
}

impl Format {
    /// Computes the missing items of a row. Each row is computed on its own, because a product of
    /// more rows may sum in another order, and stored values must not depend on which rows of a
    /// batch were missing.
    fn compute(
        &self,
        teacher: &Transformer,
        tokens: &[u32],
        row: usize,
        items: Vec<Item>,
        sheet: &mut Sheet,
    ) -> Result<Vec<(Item, Pieces)>> {
        let ids =
            Tensor::from_slice(tokens, (1, tokens.len()), teacher.embedding_and_head().device())?;
        let last = self.layers;
        let state_index = |item: &Item| if let Item::State(index) = item { *index } else { last };
        let deepest = items.iter().map(state_index).max().unwrap_or(0);
        let states = teacher.states_through(&ids, deepest)?;
        let mut computed = Vec::with_capacity(items.len());
        for item in items {
            let state = &states[state_index(&item)];
            let pieces = match item {
                Item::State(_) => self.encode_state(state)?,
                Item::Outputs => self.encode_outputs(teacher, state)?,
            };
            let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            sheet.write(row, item, &borrowed).map_err(Error::internal)?;
            computed.push((item, pieces));
        }
        Ok(computed)
    }

    /// The pieces of a state, (1, T, D).
    fn encode_state(&self, state: &Tensor) -> Result<Pieces> {
        let state = state.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let (values, scales) = self.precision.encode(&state, self.width)?;
        Ok(if scales.is_empty() { vec![values] } else { vec![values, scales] })
    }

    /// The pieces of the top tokens of the output on the last state, (1, T, D).
    fn encode_outputs(&self, teacher: &Transformer, state: &Tensor) -> Result<Pieces> {
        let Self { vocabulary, top_k, temperature, .. } = *self;
        let logits = teacher.embedding_and_head().logits(state)?.to_dtype(DType::F32)?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        let parts: Vec<TopTokens> = logits
            .par_chunks(POSITIONS_PER_TASK * vocabulary)
            .map(|logits| TopTokens::from_logits(logits, vocabulary, top_k, temperature))
            .collect();
        let float_bytes = |values: fn(&TopTokens) -> &[f32]| {
            parts.iter().flat_map(values).flat_map(|value| value.to_le_bytes()).collect()
        };
        let ids = parts.iter().flat_map(|part| &part.ids).flat_map(|id| id.to_le_bytes()).collect();
        Ok(vec![ids, float_bytes(|part| &part.log_p), float_bytes(|part| &part.log_tail)])
    }
}
