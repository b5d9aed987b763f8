//! How fast does a model write?

use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::shape::at_least_one;
use crate::decode::{CacheSharing, Decoder, ReadDepth};
use crate::error::{Error, Result};
use crate::eval::cost::peak_rss_mib;
use crate::train::Interrupt;

/// Tokens read together before the clock starts.
const PROMPT: usize = 16;
/// Numbers that are read to tell how fast memory is: 256 MiB, larger than any cache.
const MEMORY: usize = 1 << 26;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecodeReport {
    /// Texts that were written together.
    pub texts: usize,
    /// Tokens of each, one after the other.
    pub tokens: usize,
    /// Threads of the arithmetic.
    pub threads: usize,
    /// All tokens.
    pub wall_s: f64,
    /// Tokens of all texts over the time from the first to the last.
    pub tokens_per_s: f64,
    /// Median of the time from one token to the next.
    pub token_s: f64,
    /// Repetitions of the core per token; 1 for an unshared stack.
    pub mean_repetitions: f64,
    /// All matrices, each counted once, in MiB.
    pub weights_mib: f64,
    /// What the keys and values took in the end, in MiB.
    pub cache_mib: f64,
    /// Matrices over the median time, in 1e9 bytes a second: of a stack, what is read from memory.
    pub weights_gb_per_s: f64,
    /// A plain sum over 256 MiB, the best of three, in 1e9 bytes a second.
    pub memory_gb_per_s: f64,
    /// Most memory the process ever held; none where the system does not tell.
    pub peak_rss_mib: Option<f64>,
}

/// Writes `tokens` tokens after a short prompt of fixed tokens, the likeliest one each time, in
/// `texts` texts at once.
///
/// # Errors
/// There is nothing to write, the texts are longer than the model reads, or the interrupt is set.
pub fn time_decode(
    decoder: &Decoder,
    texts: usize,
    tokens: usize,
    depth: ReadDepth<'_>,
    sharing: CacheSharing,
    interrupt: &Interrupt,
) -> Result<DecodeReport> {
    for (name, count) in [("texts", texts), ("tokens", tokens)] {
        at_least_one(name, count)?;
    }
    let longest = decoder.base().max_positions;
    if tokens + PROMPT > longest {
        return Err(Error::input(format!(
            "{tokens} tokens after {PROMPT} others, this model reads at most {longest}"
        ))
        .hint("make --tokens smaller"));
    }
    let vocabulary = decoder.base().vocabulary;
    let prompts: Vec<Vec<u32>> = (0..texts)
        .map(|text| (0..PROMPT).map(|i| ((text * 31 + i * 97) % vocabulary) as u32).collect())
        .collect();
    let mut cache = decoder.new_cache(texts, sharing);
    let new: Vec<(usize, &[u32])> =
        prompts.iter().enumerate().map(|(text, ids)| (text, ids.as_slice())).collect();
    decoder.read(&new, &mut cache, depth)?;
    let mut last: Vec<u32> = prompts.iter().map(|ids| ids[PROMPT - 1]).collect();
    let (mut times, mut repetitions) = (Vec::with_capacity(tokens), 0);
    let start = Instant::now();
    for _ in 0..tokens {
        if interrupt.is_set() {
            return Err(Error::interrupted("stopped before everything was timed"));
        }
        let begun = Instant::now();
        let new: Vec<(usize, &[u32])> = last.chunks(1).enumerate().collect();
        let read = decoder.read(&new, &mut cache, depth)?;
        repetitions += read.repetitions.iter().sum::<usize>();
        let logits = decoder.logits(&read.normed)?;
        for (last, logits) in last.iter_mut().zip(logits.chunks_exact(vocabulary)) {
            *last = likeliest(logits);
        }
        times.push(begun.elapsed().as_secs_f64());
    }
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    times.sort_unstable_by(f64::total_cmp);
    let token_s = times[times.len() / 2].max(1e-9);
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    Ok(DecodeReport {
        texts,
        tokens,
        threads: rayon::current_num_threads(),
        wall_s: seconds,
        tokens_per_s: (texts * tokens) as f64 / seconds,
        token_s,
        mean_repetitions: repetitions as f64 / (texts * tokens) as f64,
        weights_mib: mib(decoder.bytes()),
        cache_mib: mib(cache.bytes()),
        weights_gb_per_s: decoder.bytes() as f64 / token_s / 1e9,
        // Read before the large buffer below is.
        peak_rss_mib: peak_rss_mib(),
        memory_gb_per_s: memory_gb_per_s(),
    })
}

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

fn memory_gb_per_s() -> f64 {
    let numbers = vec![1_u64; MEMORY / 2];
    let best = (0..3).map(|_| {
        let start = Instant::now();
        let sum: u64 = numbers.par_chunks(1 << 16).map(|part| part.iter().sum::<u64>()).sum();
        std::hint::black_box(sum);
        start.elapsed().as_secs_f64().max(1e-9)
    });
    4.0 * MEMORY as f64 / best.fold(f64::INFINITY, f64::min) / 1e9
}
