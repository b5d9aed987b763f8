//! Wall-clock and processor times of repeated work.

use std::time::Instant;

use crate::context::Context;
use crate::error::Result;

/// Rounds before the clock starts: the first ones run with cold caches and memory.
const WARM_UP: usize = 2;

/// Medians over the timed rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Timing {
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
    Ok(Timing { wall_s: median(&mut wall), cpu_s })
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
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 3.0).abs() < f64::EPSILON);
    }
}
