//! How far has it come?

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::failure::in_colour;
use crate::context::Observer;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Volume {
    /// Warnings.
    Quiet,
    /// And notes and progress.
    Normal,
    /// And how long each part took.
    Verbose,
}

/// Where stderr is no terminal, a line now and then stands for the bar.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// Draws bars and lines on stderr.
pub(super) struct Progress {
    volume: Volume,
    is_terminal: bool,
    task: Mutex<Option<Task>>,
}

struct Task {
    name: String,
    unit: String,
    total: u64,
    bar: ProgressBar,
    started: Instant,
    told: Instant,
}

impl Progress {
    pub(super) fn new(volume: Volume) -> Self {
        Self { volume, is_terminal: std::io::stderr().is_terminal(), task: Mutex::new(None) }
    }

    fn task(&self) -> MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line above the bar.
    fn line(&self, text: &str) {
        let write = || {
            // Nobody may be left to read it.
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        match self.task().as_ref() {
            Some(task) => task.bar.suspend(write),
            None => write(),
        }
    }
}

fn style(unit: &str, total: u64) -> ProgressStyle {
    let template = match (unit, total) {
        ("bytes", 0) => "{task:>10} {spinner} {bytes} {msg}",
        ("bytes", _) => "{task:>10} {bar:28} {bytes}/{total_bytes} {bytes_per_sec}, {eta} {msg}",
        (_, 0) => "{task:>10} {spinner} {pos} {unit} {msg}",
        _ => "{task:>10} {bar:28} {pos}/{len} {unit}, {rate}, {eta} left {msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let rate = state.per_sec();
            let digits = usize::from(rate < 100.0) + usize::from(rate < 1.0);
            let _ = write!(out, "{rate:.digits$}/s");
        })
}

impl Observer for Progress {
    fn begin(&self, task: &str, total: u64, unit: &str) {
        let drawn = self.is_terminal && self.volume != Volume::Quiet;
        let target =
            if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target((total > 0).then_some(total), target);
        let (name, own_unit) = (task.to_owned(), unit.to_owned());
        let shown = name.clone();
        bar.set_style(
            style(unit, total)
                .with_key("task", move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = out.write_str(&shown);
                })
                .with_key("unit", move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = out.write_str(&own_unit);
                }),
        );
        let now = Instant::now();
        let unit = unit.to_owned();
        *self.task() = Some(Task { name, unit, total, bar, started: now, told: now });
    }

    fn advance(&self, done: u64, message: &str) {
        let mut task = self.task();
        let Some(task) = task.as_mut() else { return };
        // What an earlier run did took no time in this one.
        if task.bar.position() == 0 && done > 1 && task.started.elapsed().as_millis() < 50 {
            task.bar.set_position(done);
            task.bar.reset_eta();
        }
        task.bar.set_position(done);
        task.bar.set_message(message.to_owned());
        let lines = !self.is_terminal && self.volume != Volume::Quiet;
        if lines && task.told.elapsed() >= LINE_EVERY {
            task.told = Instant::now();
            let mut line = format!("{}: {done}", task.name);
            if task.total > 0 {
                let _ = write!(line, "/{}", task.total);
            }
            let _ = write!(line, " {}", task.unit);
            if !message.is_empty() {
                let _ = write!(line, ", {message}");
            }
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    fn end(&self) {
        let Some(task) = self.task().take() else { return };
        task.bar.finish_and_clear();
        if self.volume == Volume::Verbose {
            let seconds = task.started.elapsed().as_secs_f64();
            self.line(&format!("{}: {seconds:.1} s", task.name));
        }
    }

    fn note(&self, message: &str) {
        if self.volume != Volume::Quiet {
            self.line(message);
        }
    }

    fn warn(&self, message: &str) {
        let (yellow, plain) = if in_colour() { ("\x1b[1;33m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("{yellow}warning{plain}: {message}"));
    }
}
