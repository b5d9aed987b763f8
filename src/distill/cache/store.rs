//! Was the teacher asked this before?

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::config::TeacherCacheConfig;
use super::folder::Folder;
use super::format::{Format, Item, Pieces, RowKey, row_key};
use super::shard::{Draft, Shard, Signature};
use super::sheet::{Answer, Sheet};
use crate::context::Context;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::losses::terms::TopTokens;
use crate::model::{CausalLm, Transformer, TransformerConfig};

/// Bytes of a file, about.
const SHARD_BYTES: u64 = 64 << 20;
/// Positions whose likeliest tokens one task finds.
const POSITIONS_PER_TASK: usize = 16;

/// What a teacher said of rows of tokens, on disk. What it has not said yet it is asked, and the
/// answer is rounded as what is kept: a run's numbers do not depend on what the cache holds.
pub struct TeacherCache<'a> {
    format: Format,
    folder: Folder,
    /// None: damaged.
    shards: Vec<Option<Shard>>,
    /// The shard and the place in it; a row may be in several, with other items in each.
    index: HashMap<RowKey, Vec<(usize, usize)>>,
    drafts: BTreeMap<Signature, Draft>,
    draft_bytes: u64,
    writes: bool,
    /// Rows that were all there, and rows for which the teacher was asked.
    known: u64,
    asked: u64,
    context: &'a Context,
}

impl fmt::Debug for TeacherCache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.folder.path();
        f.debug_struct("TeacherCache").field("folder", &folder).finish_non_exhaustive()
    }
}

impl<'a> TeacherCache<'a> {
    /// Opens the cache of the teacher with this `fingerprint` and shape, with outputs at
    /// `temperature`, in the folder `teacher` of the cache folder of `context`. Damaged files are
    /// warned of and removed.
    ///
    /// # Errors
    /// `config` keeps nothing.
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
            kept: config.top_k.min(teacher.vocabulary),
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
            known: 0,
            asked: 0,
            context,
        };
        for path in cache.folder.shards() {
            // One that cannot be read, or was removed a moment ago, is no damaged one.
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
            "a file of the teacher's cache is damaged and is made again: {damage} ({})",
            path.display()
        ));
        // Where it cannot be removed it is ignored.
        let _ = std::fs::remove_file(path);
    }

    /// What is `wanted` of every row of `batch`. Several threads may ask at once; none holds the
    /// cache while the teacher computes: whoever waits for a parallel loop may come to ask, too.
    pub(in crate::distill) fn answer(
        cache: &Mutex<Self>,
        teacher: &Transformer,
        batch: &Batch,
        wanted: &[Item],
    ) -> Result<Answer> {
        let open = || cache.lock().unwrap_or_else(PoisonError::into_inner);
        let format = open().format;
        let mut sheet = Sheet::new(format, batch.rows, batch.columns, wanted);
        for (row, tokens) in batch.inputs.chunks_exact(batch.columns).enumerate() {
            let key = row_key(tokens);
            let mut items = wanted.to_vec();
            {
                let mut cache = open();
                items.retain(|item| !cache.recall(&key, *item, row, batch.columns, &mut sheet));
                *(if items.is_empty() { &mut cache.known } else { &mut cache.asked }) += 1;
            }
            if !items.is_empty() {
                let kept = format.ask(teacher, tokens, (row, items), &mut sheet)?;
                open().keep(key, tokens.len(), &kept);
            }
        }
        sheet.finish(teacher.embedding_and_head().device())
    }

    /// Writes an item of a row into `sheet`, if it is here and whole.
    fn recall(
        &mut self,
        key: &RowKey,
        item: Item,
        row: usize,
        tokens: usize,
        sheet: &mut Sheet,
    ) -> bool {
        for (at, place) in self.index.get(key).cloned().unwrap_or_default() {
            let Some(shard) = &self.shards[at] else { continue };
            let found = shard.pieces(key, place, item, tokens).and_then(|pieces| match pieces {
                Some(pieces) => sheet.write(row, item, &pieces).map(|()| true),
                None => Ok(false),
            });
            match found {
                Ok(true) => return true,
                Ok(false) => {}
                Err(damage) => {
                    self.discard(&shard.path, &damage);
                    self.shards[at] = None;
                }
            }
        }
        self.drafts.iter().any(|(signature, draft)| {
            let pieces = draft.pieces(&self.format, signature, key, item);
            pieces.is_some_and(|pieces| sheet.write(row, item, &pieces).is_ok())
        })
    }

    /// Puts what a row lacked beside what waits to be written, and writes when that is enough.
    fn keep(&mut self, key: RowKey, tokens: usize, kept: &[(Item, Pieces)]) {
        if !self.writes {
            return;
        }
        let items: Vec<Item> = kept.iter().map(|(item, _)| *item).collect();
        let draft = self.drafts.entry(Signature { tokens, items }).or_default();
        let before = draft.bytes();
        draft.push(key, kept);
        self.draft_bytes += (draft.bytes() - before) as u64;
        // A quarter: a small limit is used well, too.
        if self.draft_bytes >= SHARD_BYTES.min(self.folder.limit_bytes() / 4) {
            let largest = self.drafts.iter().max_by_key(|(_, draft)| draft.bytes());
            if let Some(signature) = largest.map(|(signature, _)| signature.clone()) {
                self.flush(&signature);
            }
        }
    }

    /// Writes a file. Where that fails the run goes on: it is only a cache.
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
            "nothing more of the teacher is kept: {why}; what is not there is computed ({})",
            self.folder.path().display()
        ));
    }

    /// Writes what waits, and tells what the cache was good for.
    pub fn close(&mut self) {
        while let Some(signature) = self.drafts.keys().next().cloned() {
            self.flush(&signature);
        }
        self.context.note(&format!(
            "teacher: {} rows from the cache, {} computed; {:.3} GB in {}",
            self.known,
            self.asked,
            self.folder.bytes() as f64 / 1e9,
            self.folder.path().display()
        ));
    }
}

impl Format {
    /// Asks the teacher what a row lacks. A row alone: a product of more rows may sum in another
    /// order, and what is kept must not depend on what a batch happened to lack.
    fn ask(
        &self,
        teacher: &Transformer,
        tokens: &[u32],
        (row, items): (usize, Vec<Item>),
        sheet: &mut Sheet,
    ) -> Result<Vec<(Item, Pieces)>> {
        let ids =
            Tensor::from_slice(tokens, (1, tokens.len()), teacher.embedding_and_head().device())?;
        let last = self.layers;
        let depth = |item: &Item| if let Item::State(index) = item { *index } else { last };
        let deepest = items.iter().map(depth).max().unwrap_or(0);
        let states = teacher.states_through(&ids, deepest)?;
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            let state = &states[depth(&item)];
            let pieces = match item {
                Item::State(_) => self.rounded(state)?,
                Item::Outputs => self.likeliest(teacher, state)?,
            };
            let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            sheet.write(row, item, &borrowed).map_err(Error::internal)?;
            kept.push((item, pieces));
        }
        Ok(kept)
    }

    /// The pieces of a state, (1, T, D).
    fn rounded(&self, state: &Tensor) -> Result<Pieces> {
        let numbers = state.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let (values, scales) = self.precision.encode(&numbers, self.width)?;
        Ok(if scales.is_empty() { vec![values] } else { vec![values, scales] })
    }

    /// The pieces of the likeliest tokens after a last state, (1, T, D).
    fn likeliest(&self, teacher: &Transformer, state: &Tensor) -> Result<Pieces> {
        let Self { vocabulary, kept, temperature, .. } = *self;
        let logits = teacher.embedding_and_head().logits(state)?.to_dtype(DType::F32)?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        let parts: Vec<TopTokens> = logits
            .par_chunks(POSITIONS_PER_TASK * vocabulary)
            .map(|logits| TopTokens::from_logits(logits, vocabulary, kept, temperature))
            .collect();
        let floats = |of: fn(&TopTokens) -> &[f32]| {
            parts.iter().flat_map(of).flat_map(|number| number.to_le_bytes()).collect()
        };
        let ids = parts.iter().flat_map(|part| &part.ids).flat_map(|id| id.to_le_bytes()).collect();
        Ok(vec![ids, floats(|part| &part.log_p), floats(|part| &part.log_tail)])
    }
}
