//! Wall-clock and processor times of repeated work, and how they spread.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;

/// Rounds before the clock starts: the first ones run with cold caches and memory.
const WARM_UP: usize = 2;

/// How the times of the rounds spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rounds {
    /// Rounds before the clock starts.
    pub warm_up: usize,
    /// Rounds timed.
    pub timed: usize,
    /// Mean of the wall-clock times.
    pub mean_s: f64,
    /// Their standard deviation; 0 of one round.
    pub deviation_s: f64,
    /// The shortest.
    pub least_s: f64,
    /// The longest.
    pub most_s: f64,
    /// Rounds longer than 1.5 interquartile ranges past the third quartile: something else ran.
    pub outliers: usize,
}

impl Rounds {
    /// Of `times`, in any order, after `warm_up` that do not count.
    pub(super) fn of(times: &[f64], warm_up: usize) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let timed = sorted.len();
        let mean_s = sorted.iter().sum::<f64>() / timed.max(1) as f64;
        let squares: f64 = sorted.iter().map(|time| (time - mean_s).powi(2)).sum();
        let quartile = |share: f64| sorted[((timed - 1) as f64 * share).round() as usize];
        let limit = match timed {
            0 => f64::INFINITY,
            _ => quartile(0.75) + 1.5 * (quartile(0.75) - quartile(0.25)),
        };
        Self {
            warm_up,
            timed,
            mean_s,
            deviation_s: (squares / timed.saturating_sub(1).max(1) as f64).sqrt(),
            least_s: sorted.first().copied().unwrap_or(f64::NAN),
            most_s: sorted.last().copied().unwrap_or(f64::NAN),
            outliers: sorted.iter().filter(|time| **time > limit).count(),
        }
    }
}

/// Medians over the rounds that count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Timing {
    pub(super) rounds: Rounds,
    pub(super) wall_s: f64,
    /// Processor time of all threads; none where the system does not report it.
    pub(super) cpu_s: Option<f64>,
}

/// Times `work` over `rounds` rounds, after a warm-up.
pub(super) fn time(
    rounds: usize,
    context: &Context,
    mut work: impl FnMut() -> Result<()>,
) -> Result<Timing> {
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + rounds {
        context.check_cancelled("before everything was timed")?;
        let (start, processor_start) = (Instant::now(), processor_s());
        work()?;
        if round >= WARM_UP {
            wall.push(start.elapsed().as_secs_f64().max(1e-9));
            cpu.extend(processor_s().zip(processor_start).map(|(after, before)| after - before));
        }
    }
    let cpu_s = if cpu.len() == wall.len() { Some(median(&mut cpu)) } else { None };
    Ok(Timing { rounds: Rounds::of(&wall, WARM_UP), wall_s: median(&mut wall), cpu_s })
}

/// The median of some values; of two in the middle, the higher one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Processor time of the live threads of this process (Linux only). The threads of the arithmetic
/// live as long as the process.
// /proc/self/stat counts in hundredths of a second, which is a whole step of a small model.
fn processor_s() -> Option<f64> {
    let mut sum_ns = 0.0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        // A thread may have ended since it was listed.
        let Ok(text) = std::fs::read_to_string(task.ok()?.path().join("schedstat")) else {
            continue;
        };
        sum_ns += text.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(sum_ns / 1e9).filter(|&seconds| seconds > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_the_rounds_and_a_slow_one_is_an_outlier() {
        let rounds = Rounds::of(&[1.0, 1.2, 1.1, 1.0, 9.0], 2);
        assert_eq!((rounds.warm_up, rounds.timed, rounds.outliers), (2, 5, 1));
        assert!((rounds.mean_s - 2.66).abs() < 1e-9);
        // By hand: the squared distances from 2.66 sum to 50.272, of four degrees of freedom.
        assert!((rounds.deviation_s - (50.272_f64 / 4.0).sqrt()).abs() < 1e-9);
        assert!((rounds.least_s - 1.0).abs() < 1e-12 && (rounds.most_s - 9.0).abs() < 1e-12);
        let one = Rounds::of(&[3.0], 0);
        assert!(one.deviation_s.abs() < 1e-12 && one.outliers == 0);
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 3.0).abs() < f64::EPSILON);
    }
}
