//! How is a measurement of speed shown?

use super::bench_args::{BenchCommand, DecodeArgs, PeakArgs, PrefillArgs, StepArgs};
use super::depth::reading;
use super::{Session, output};
use crate::bench::{StepGraph, StepShape, matrix_peak, time_decode, time_prefill, time_step};
use crate::decode::{Decoder, ReadDepth};
use crate::error::{Error, Result};
use crate::run::Loaded;

/// Side of the square product that is always timed.
const SQUARE: usize = 1024;

pub(super) fn bench(command: &BenchCommand, session: &Session) -> Result<()> {
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
    let timed = [found.wall_s, found.tokens_per_s, found.gflop];
    output::table(&rows(timed, found.cpu_s, found.peak_rss_mib))
}

fn prefill(args: &PrefillArgs, session: &Session) -> Result<()> {
    let context = &session.context;
    let loaded = Loaded::read(&args.model, &session.context)?;
    let model = loaded.model.lm();
    let found = time_prefill(model, args.batch, args.tokens, args.steps, context)?;
    if session.json {
        return output::json(&found);
    }
    let timed = [found.wall_s, found.tokens_per_s, found.gflop];
    output::table(&rows(timed, found.cpu_s, found.peak_rss_mib))
}

fn decode(args: &DecodeArgs, session: &Session) -> Result<()> {
    let context = &session.context;
    let loaded = Loaded::read(&args.model, &session.context)?;
    let (read, most) = reading(&args.depth, &loaded, args.repetitions, None)?;
    let model = loaded.model.lm();
    let decoder = Decoder::new(model, read.weight_type)?;
    let policy = read.stopping.as_ref().map(|stop| (&*stop.policy, stop.gate.as_ref()));
    let depth = ReadDepth { most: most.unwrap_or(model.repetitions()), policy };
    let found = time_decode(&decoder, args.texts, args.tokens, depth, read.sharing, context)?;
    if session.json {
        return output::json(&found);
    }
    let head = [
        "tokens_per_s",
        "token_s",
        "mean_repetitions",
        "weights_mib",
        "weights_gb_per_s",
        "memory_gb_per_s",
        "peak_rss_mib",
    ];
    let row = [
        format!("{:.1}", found.tokens_per_s),
        format!("{:.5}", found.token_s),
        format!("{:.2}", found.mean_repetitions),
        format!("{:.1}", found.weights_mib),
        format!("{:.1}", found.weights_gb_per_s),
        format!("{:.1}", found.memory_gb_per_s),
        found.peak_rss_mib.map_or_else(|| "?".to_owned(), |mib| format!("{mib:.0}")),
    ];
    output::table(&[head.map(str::to_owned).to_vec(), row.to_vec()])
}

fn rows(
    [wall_s, tokens_per_s, gflop]: [f64; 3],
    cpu_s: Option<f64>,
    rss_mib: Option<f64>,
) -> Vec<Vec<String>> {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let head = ["wall_s", "cpu_s", "tokens_per_s", "peak_rss_mib", "gflop_per_s"];
    let row = [
        format!("{wall_s:.5}"),
        or_unknown(cpu_s.map(|cpu_s| format!("{cpu_s:.5}"))),
        format!("{tokens_per_s:.1}"),
        or_unknown(rss_mib.map(|rss_mib| format!("{rss_mib:.0}"))),
        format!("{:.1}", gflop / wall_s),
    ];
    vec![head.map(str::to_owned).to_vec(), row.to_vec()]
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
    let head = ["product", "gflop_per_s"].map(str::to_owned).to_vec();
    let lines = found.shapes.iter().map(|product| {
        let shape = format!("{} x {} x {}", product.rows, product.inner, product.columns);
        vec![shape, format!("{:.1}", product.gflop_per_s)]
    });
    output::table(&std::iter::once(head).chain(lines).collect::<Vec<_>>())
}
