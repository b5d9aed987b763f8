//! `point`: carries out one point of a study in a process of its own.

use std::io::Read;
use std::time::Instant;

use crate::cli::args::study::PointArgs;
use crate::cli::session::Session;
use crate::error::Result;
use crate::run::{Existing, Options};
use crate::study::sweep::{find, finish};
use crate::study::{Done, carry_out};

pub(crate) fn point(args: &PointArgs, session: &Session) -> Result<()> {
    // Whoever started this process holds its input open; when it ends, so does this.
    let cancellation = session.context.cancellation().clone();
    std::thread::spawn(move || {
        let mut nothing = Vec::new();
        // However reading ends, nobody is there any more.
        let _ = std::io::stdin().read_to_end(&mut nothing);
        cancellation.cancel();
    });
    let point = find(&args.out, &args.id)?;
    let options = Options {
        out: args.out.clone(),
        existing: Existing::Resume,
        context: session.context.clone(),
        provenance: session.provenance(false),
    };
    let started = Instant::now();
    let outcome = carry_out(&point.job, &options)?;
    let seconds = started.elapsed().as_secs_f64();
    finish(&args.out, &point.id, &Done { job: point.job, outcome, seconds })
}
