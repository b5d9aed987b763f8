//! Execution of points in parallel processes.
//!
//! Each point runs in a process of its own, so that a crash loses one point. A process watches its
//! standard input and stops when it ends, that is when its parent has stopped.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::points::{Point, Sweep, log_path};
use crate::context::Context;
use crate::error::{Error, Result};

/// Polling interval of the processes.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time a process has to save its state when it is stopped.
const GRACE: Duration = Duration::from_secs(20);
/// Attempts at a point before it counts as failed.
const ATTEMPTS: u32 = 2;

/// How a process for a point is started.
#[derive(Debug, Clone)]
pub struct Starter {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; the hash of the point is added.
    pub arguments: Vec<String>,
    /// Processes at a time.
    pub processes: usize,
}

struct Running<'a> {
    point: &'a Point,
    attempt: u32,
    child: Child,
}

/// Runs the missing points of `sweep`; returns the number of points still missing.
///
/// # Errors
/// A process cannot be started, or the user stopped it; what is done stays done.
pub fn carry_out_all(sweep: &Sweep, starter: &Starter, context: &Context) -> Result<usize> {
    let total = sweep.points().len();
    let mut waiting: VecDeque<(&Point, u32)> =
        sweep.missing().into_iter().map(|point| (point, 1)).collect();
    let mut open: Vec<String> = waiting.iter().map(|(point, _)| point.id.clone()).collect();
    let mut running: Vec<Running> = Vec::new();
    context.begin("study", total as u64, "points");
    context.advance((total - open.len()) as u64, "");
    let outcome = loop {
        if context.is_cancelled() {
            stop(&mut running, sweep);
            break Err(Error::interrupted(format!(
                "stopped after {} of {total} points",
                total - open.len()
            ))
            .hint("continue with the same command and --resume: points that are done stay done"));
        }
        if let Err(error) = start_ready(sweep, starter, &mut waiting, &mut running, &open) {
            stop(&mut running, sweep);
            break Err(error);
        }
        if running.is_empty() {
            break Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
        for ended in take_ended(&mut running) {
            let done = sweep.done(ended.point).is_some();
            if !done && ended.attempt < ATTEMPTS {
                context.warn(&format!("point {} failed; it is tried once more", ended.point.index));
                waiting.push_back((ended.point, ended.attempt + 1));
                continue;
            }
            open.retain(|id| *id != ended.point.id || !done);
            if !done {
                context.warn(&format!("point {} failed twice", ended.point.index));
            }
            let left = waiting.len() + running.len();
            context.advance((total - left) as u64, &format!("{left} left"));
        }
    };
    context.end();
    outcome.map(|()| sweep.missing().len())
}

/// Starts points whose dependencies are done, while there is room; points that depend on a failed
/// one are given up.
fn start_ready<'a>(
    sweep: &Sweep,
    starter: &Starter,
    waiting: &mut VecDeque<(&'a Point, u32)>,
    running: &mut Vec<Running<'a>>,
    open: &[String],
) -> Result<()> {
    let mut held = VecDeque::new();
    while running.len() < starter.processes.max(1) {
        let Some((point, attempt)) = waiting.pop_front() else { break };
        let needs = point.job.after().map(|job| job.id()).transpose()?;
        let unmet = needs.filter(|id| open.contains(id));
        let Some(needs) = unmet else {
            running.push(start(sweep, starter, point, attempt)?);
            continue;
        };
        let coming = running.iter().any(|running| running.point.id == needs)
            || waiting.iter().chain(&held).any(|(point, _)| point.id == needs);
        if coming {
            held.push_back((point, attempt));
        }
    }
    held.append(waiting);
    *waiting = held;
    Ok(())
}

fn start<'a>(
    sweep: &Sweep,
    starter: &Starter,
    point: &'a Point,
    attempt: u32,
) -> Result<Running<'a>> {
    let log = log_path(sweep.folder(), &point.id);
    let failed = |error: &std::io::Error| Error::io("starting a point", &log, error);
    let file = File::create(&log).map_err(|error| failed(&error))?;
    let child = Command::new(&starter.program)
        .args(&starter.arguments)
        .arg(&point.id)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::from(file))
        .spawn()
        .map_err(|error| failed(&error))?;
    Ok(Running { point, attempt, child })
}

fn take_ended<'a>(running: &mut Vec<Running<'a>>) -> Vec<Running<'a>> {
    let ended = |running: &mut Running| !matches!(running.child.try_wait(), Ok(None));
    running.extract_if(.., ended).collect()
}

/// Closes the inputs and waits until every process has saved its state. A stopped point has not
/// failed: its log is removed.
fn stop(running: &mut Vec<Running>, sweep: &Sweep) {
    let logs: Vec<PathBuf> =
        running.iter().map(|running| log_path(sweep.folder(), &running.point.id)).collect();
    for running in running.iter_mut() {
        running.child.stdin.take();
    }
    end(running);
    // A log that cannot be removed reads as a stop, which is true.
    logs.iter().for_each(|log| drop(std::fs::remove_file(log)));
}

fn end(running: &mut Vec<Running>) {
    let looks = GRACE.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        take_ended(running);
        if running.is_empty() {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    for running in running.iter_mut() {
        // It may have ended just now.
        let _ = running.child.kill();
        let _ = running.child.wait();
    }
}
