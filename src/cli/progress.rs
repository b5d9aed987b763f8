//! Progress on stderr: bars on a terminal, a line now and then elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::cli::failure::in_colour;
use crate::context::Observer;

/// How much is printed on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Volume {
    /// Warnings.
    Quiet,
    /// Warnings, notes and progress.
    Normal,
    /// The same, and how long each part took.
    Verbose,
}

/// Where stderr is no terminal, a line of this interval stands for the bar.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// Draws bars and lines on stderr.
pub(super) struct Progress {
    volume: Volume,
    is_terminal: bool,
    began: Instant,
    task: Mutex<Option<Task>>,
}

struct Task {
    name: String,
    unit: String,
    total: u64,
    bar: ProgressBar,
    started: Instant,
    /// Units that an earlier run did: they took no time in this one.
    before: u64,
    last_line: Instant,
}

impl Task {
    /// Time until it is done, by its mean speed so far.
    fn left(&self, done: u64) -> Option<Duration> {
        let here = done.checked_sub(self.before).filter(|&here| here > 0)?;
        let left = self.total.checked_sub(done)?;
        Some(self.started.elapsed().mul_f64(left as f64 / here as f64))
    }

    /// `train: 120/1700 steps (7 %), loss 3.2, 6 min left`.
    fn line(&self, done: u64, message: &str) -> String {
        let mut line = format!("{}: {done}", self.name);
        // Writing to a text never fails.
        if self.total > 0 {
            let _ = write!(line, "/{} {}", self.total, self.unit);
            let _ = write!(line, " ({:.0} %)", 100.0 * done as f64 / self.total as f64);
        } else {
            let _ = write!(line, " {}", self.unit);
        }
        if !message.is_empty() {
            let _ = write!(line, ", {message}");
        }
        if let Some(left) = self.left(done) {
            let _ = write!(line, ", {} left", duration(left));
        }
        line
    }
}

impl Progress {
    pub(super) fn new(volume: Volume) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { volume, is_terminal, began: Instant::now(), task: Mutex::new(None) }
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

/// A time in the two largest units that say something: `45 s`, `6 min`, `1 h 20 min`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5400 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Hours, minutes and seconds since the program began: `0:02:45`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn style(unit: &str, total: u64) -> ProgressStyle {
    let template = match (unit, total) {
        ("bytes", 0) => "{task:>10} {spinner} {bytes} {msg}",
        ("bytes", _) => "{task:>10} {bar:28} {bytes}/{total_bytes} {bytes_per_sec}, {eta} {msg}",
        (_, 0) => "{task:>10} {spinner} {pos} {unit} {msg}",
        _ => "{task:>10} {bar:28} {pos}/{len} {unit}{left} {msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
        .with_key("left", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let rate = state.per_sec();
            // Before the first unit is done nothing is known.
            if rate > 0.0 && rate.is_finite() {
                let digits = usize::from(rate < 100.0) + usize::from(rate < 1.0);
                let _ = write!(out, ", {rate:.digits$}/s, {} left", duration(state.eta()));
            }
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
        let begun = Task { name, unit, total, bar, started: now, before: 0, last_line: now };
        *self.task() = Some(begun);
    }

    fn advance(&self, done: u64, message: &str) {
        let mut task = self.task();
        let Some(task) = task.as_mut() else { return };
        if task.bar.position() == 0 && done > 1 && task.started.elapsed().as_millis() < 50 {
            task.before = done;
            task.bar.set_position(done);
            task.bar.reset_eta();
        }
        task.bar.set_position(done);
        task.bar.set_message(message.to_owned());
        let lines = !self.is_terminal && self.volume != Volume::Quiet;
        if lines && task.last_line.elapsed() >= LINE_EVERY {
            task.last_line = Instant::now();
            let (clock, line) = (clock(self.began.elapsed()), task.line(done, message));
            let _ = writeln!(std::io::stderr(), "[{clock}] {line}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_the_units_that_say_something() {
        for (seconds, expected) in
            [(0, "0 s"), (89, "89 s"), (90, "2 min"), (1_400, "23 min"), (5_500, "1 h 31 min")]
        {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(clock(Duration::from_secs(3_725)), "1:02:05");
    }

    #[test]
    fn what_an_earlier_run_did_does_not_count_into_the_time_left() {
        let started = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let (name, unit) = ("train".to_owned(), "steps".to_owned());
        let bar = ProgressBar::hidden();
        let task =
            Task { name, unit, total: 300, bar, started, before: 100, last_line: Instant::now() };
        assert_eq!(task.left(100), None);
        // A hundred steps took ten seconds: the last hundred take ten more.
        assert_eq!(task.line(200, "loss 1"), "train: 200/300 steps (67 %), loss 1, 10 s left");
    }
}
