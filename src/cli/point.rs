//! How does a process carry out one point of a study?

use std::io::Read;
use std::time::Instant;

use super::Session;
use super::study_args::PointArgs;
use crate::error::Result;
use crate::run::{Existing, Options};
use crate::study::sweep::{find, finish};
use crate::study::{Done, carry_out};

pub(super) fn point(args: &PointArgs, session: &Session) -> Result<()> {
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
    };
    let started = Instant::now();
    let outcome = carry_out(&point.job, &options)?;
    let seconds = started.elapsed().as_secs_f64();
    finish(&args.out, &point.id, &Done { job: point.job, outcome, seconds })
}
