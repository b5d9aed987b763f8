//! `bench`: times the arithmetic and prints the measurement.

use crate::bench::{
    Rounds, StepGraph, StepShape, matrix_peak, time_decode, time_prefill, time_step,
};
use crate::cli::args::bench::{BenchCommand, DecodeArgs, PeakArgs, PrefillArgs, StepArgs};
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::verbs::depth::{Reading, reading};
use crate::decode::{Decoder, ReadDepth};
use crate::error::{Error, Result};
use crate::run::Loaded;

/// Side of the square product that is always timed.
const SQUARE: usize = 1024;

pub(crate) fn bench(command: &BenchCommand, session: &Session) -> Result<()> {
    match command {
        BenchCommand::Step(args) => step(args, session),
        BenchCommand::Prefill(args) => prefill(args, session),
        BenchCommand::Decode(args) => decode(args, session),
        BenchCommand::Peak(args) => peak(args, session),
    }
}

fn step(args: &StepArgs, session: &Session) -> Result<()> {
    let shape = StepShape {
        width: args.width,
        ffn: args.ffn,
        core: args.core,
        repetitions: args.repetitions,
        heads: args.heads,
        batch: args.batch,
        tokens: args.tokens,
        vocab: args.vocab,
    };
    let graph = match (args.recompute, args.reference) {
        (false, false) => StepGraph::Kept,
        (true, false) => StepGraph::Recomputed,
        (false, true) => StepGraph::Reference,
        (true, true) => StepGraph::RecomputedReference,
    };
    let found = time_step(&shape, graph, args.steps, &session.context)?;
    if session.json {
        return output::json(&found);
    }
    let mut rows = times(&found.rounds, found.wall_s, found.cpu_s);
    rows.push(("tokens/s", format!("{:.1}", found.tokens_per_s)));
    rows.push(("GFLOP/s", format!("{:.1}", found.gflop / found.wall_s)));
    rows.push(("most memory", memory(found.peak_rss_mib)));
    show(rows)
}

fn prefill(args: &PrefillArgs, session: &Session) -> Result<()> {
    let context = &session.context;
    let loaded = Loaded::read(&args.model, &session.context)?;
    let model = loaded.model.lm();
    let found = time_prefill(model, args.batch, args.tokens, args.steps, context)?;
    if session.json {
        return output::json(&found);
    }
    let mut rows = times(&found.rounds, found.wall_s, found.cpu_s);
    rows.push(("tokens/s", format!("{:.1}", found.tokens_per_s)));
    rows.push(("GFLOP/s", format!("{:.1}", found.gflop / found.wall_s)));
    rows.push(("most memory", memory(found.peak_rss_mib)));
    show(rows)
}

fn decode(args: &DecodeArgs, session: &Session) -> Result<()> {
    let context = &session.context;
    let loaded = Loaded::read(&args.model, &session.context)?;
    let Reading { config: read, repetitions: most, .. } =
        reading(&args.depth, &loaded, args.repetitions, None)?;
    let model = loaded.model.lm();
    let decoder = Decoder::new(model, read.weight_type)?;
    let policy = read.stopping.as_ref().map(|stop| (&*stop.policy, stop.gate.as_ref()));
    let depth = ReadDepth { most: most.unwrap_or(model.repetitions()), policy };
    let found = time_decode(&decoder, args.texts, args.tokens, depth, read.sharing, context)?;
    if session.json {
        return output::json(&found);
    }
    let mut rows = times(&found.rounds, found.token_s, None);
    rows.extend([
        ("tokens/s", format!("{:.1}", found.tokens_per_s)),
        ("mean repetitions", format!("{:.2}", found.mean_repetitions)),
        ("weights", format!("{:.1} MiB", found.weights_mib)),
        ("weights read", format!("{:.1} GB/s", found.weights_gb_per_s)),
        ("memory bandwidth", format!("{:.1} GB/s", found.memory_gb_per_s)),
        ("most memory", memory(found.peak_rss_mib)),
    ]);
    show(rows)
}

/// Median, mean with deviation, range and rounds, as rows of a name and a value.
fn times(rounds: &Rounds, median_s: f64, cpu_s: Option<f64>) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("median", seconds(median_s)),
        (
            "mean ± deviation",
            format!("{} ± {}", seconds(rounds.mean_s), seconds(rounds.deviation_s)),
        ),
        ("range", format!("{} to {}", seconds(rounds.least_s), seconds(rounds.most_s))),
        ("rounds", format!("{} after {} of warm-up", rounds.timed, rounds.warm_up)),
    ];
    rows.extend(cpu_s.map(|cpu_s| ("processor time, median", seconds(cpu_s))));
    if rounds.outliers > 0 {
        rows.push(("outliers", format!("{}: did other work run?", rounds.outliers)));
    }
    rows
}

/// A time in the unit that leaves one to three digits before the point.
fn seconds(time_s: f64) -> String {
    match time_s {
        1.0.. => format!("{time_s:.3} s"),
        1e-3..1.0 => format!("{:.2} ms", 1e3 * time_s),
        _ => format!("{:.2} µs", 1e6 * time_s),
    }
}

fn memory(mib: Option<f64>) -> String {
    mib.map_or_else(|| "unknown".to_owned(), |mib| format!("{mib:.0} MiB"))
}

fn show(rows: Vec<(&'static str, String)>) -> Result<()> {
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]);
    output::table(&rows.collect::<Vec<_>>())
}

fn peak(args: &PeakArgs, session: &Session) -> Result<()> {
    let tokens = args.batch.checked_mul(args.tokens).ok_or_else(|| {
        Error::input(format!("{} rows of {} tokens are too many", args.batch, args.tokens))
    })?;
    let mut shapes = vec![[SQUARE, SQUARE, SQUARE]];
    if let Some(width) = args.width {
        shapes.push([tokens, width, width]);
        if let Some(ffn) = args.ffn {
            // Into the mlp, out of it, and the gradient of its weights.
            shapes.extend([[tokens, width, ffn], [tokens, ffn, width], [ffn, tokens, width]]);
        }
        shapes.extend(args.vocab.map(|vocab| [tokens, width, vocab]));
    }
    let found = matrix_peak(&shapes, &session.context)?;
    if session.json {
        return output::json(&found);
    }
    let head = ["product", "GFLOP/s"].map(str::to_owned).to_vec();
    let lines = found.shapes.iter().map(|product| {
        let shape = format!("{} x {} x {}", product.rows, product.inner, product.columns);
        vec![shape, format!("{:.1}", product.gflop_per_s)]
    });
    output::table(&std::iter::once(head).chain(lines).collect::<Vec<_>>())
}
