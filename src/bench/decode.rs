//! Decoding speed of a model.

use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::clock::Rounds;
use super::shape::at_least_one;
use crate::context::Context;
use crate::decode::{CacheSharing, Decoder, ReadDepth};
use crate::error::{Error, Result};
use crate::eval::cost::peak_rss_mib;

/// Tokens read together before the clock starts.
const PROMPT: usize = 16;
/// Size of the buffer that is summed to measure the memory bandwidth, in f32: 256 MiB, larger than
/// any cache.
const MEMORY: usize = 1 << 26;

/// The measured decoding speed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecodeReport {
    /// Sequences that were decoded together.
    pub texts: usize,
    /// Tokens of each sequence, one after the other.
    pub tokens: usize,
    /// Threads of the arithmetic.
    pub threads: usize,
    /// Wall-clock time of all tokens.
    pub wall_s: f64,
    /// Tokens of all sequences over `wall_s`.
    pub tokens_per_s: f64,
    /// Median of the time from one token to the next.
    pub token_s: f64,
    /// How the times from one token to the next spread.
    pub rounds: Rounds,
    /// Repetitions of the core per token; 1 for an unshared stack.
    pub mean_repetitions: f64,
    /// Size of all matrices, each counted once, in MiB.
    pub weights_mib: f64,
    /// Size of the keys and values at the end, in MiB.
    pub cache_mib: f64,
    /// `weights_mib` over the median time, in 1e9 bytes a second: for an unshared stack, the memory
    /// bandwidth that is used.
    pub weights_gb_per_s: f64,
    /// Memory bandwidth: a plain sum over 256 MiB, the best of three, in 1e9 bytes a second.
    pub memory_gb_per_s: f64,
    /// Peak resident memory of the process; none where the system does not report it.
    pub peak_rss_mib: Option<f64>,
}

/// Decodes `tokens` tokens greedily after a short prompt of fixed tokens, in `texts` sequences at
/// once.
///
/// # Errors
/// There is nothing to decode, the sequences are longer than the context length, or the context is
/// cancelled.
pub fn time_decode(
    decoder: &Decoder,
    texts: usize,
    tokens: usize,
    depth: ReadDepth<'_>,
    sharing: CacheSharing,
    context: &Context,
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
        context.check_cancelled("before everything was timed")?;
        let begun = Instant::now();
        let new: Vec<(usize, &[u32])> = last.chunks(1).enumerate().collect();
        let read = decoder.read(&new, &mut cache, depth)?;
        repetitions += read.repetitions.iter().sum::<usize>();
        let logits = decoder.logits(&read.normed)?;
        for (last, logits) in last.iter_mut().zip(logits.chunks_exact(vocabulary)) {
            *last = argmax(logits);
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
        rounds: Rounds::of(&times, 0),
        mean_repetitions: repetitions as f64 / (texts * tokens) as f64,
        weights_mib: mib(decoder.bytes()),
        cache_mib: mib(cache.bytes()),
        weights_gb_per_s: decoder.bytes() as f64 / token_s / 1e9,
        // Measured before the large buffer below is allocated.
        peak_rss_mib: peak_rss_mib(),
        memory_gb_per_s: memory_gb_per_s(),
    })
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

fn memory_gb_per_s() -> f64 {
    let buffer = vec![1_u64; MEMORY / 2];
    let best = (0..3).map(|_| {
        let start = Instant::now();
        let sum: u64 = buffer.par_chunks(1 << 16).map(|part| part.iter().sum::<u64>()).sum();
        std::hint::black_box(sum);
        start.elapsed().as_secs_f64().max(1e-9)
    });
    4.0 * MEMORY as f64 / best.fold(f64::INFINITY, f64::min) / 1e9
}
