//! The split of a teacher into prelude, core and coda.

use candle_core::Tensor;

use super::project_width::reduced_width_config;
use crate::autograd::Tape;
use crate::context::Context;
use crate::distill::config::{Layers, StudentConfig};
use crate::error::{Error, Result};
use crate::kernels::host::Host;
use crate::model::{CausalLm, LoopedConfig, Transformer};

/// Mean angular distance between the states before and after each layer, angle / pi, 0 to 1: (L).
/// Koishekenov et al. 2025, after Gromov et al. 2024.
///
/// # Errors
/// There is no calibration text, or the user stopped it.
pub fn angular_distances(
    teacher: &Transformer,
    calibration: &[Tensor],
    context: &Context,
) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; teacher.base().layers];
    let mut tokens = 0;
    for ids in calibration {
        let (tape, table) = (Tape::off(), teacher.embedding_and_head().rope(0, ids.dim(1)?));
        let mut state = teacher.embedding_and_head().embed(&tape, ids)?;
        for (layer, sum) in sums.iter_mut().enumerate() {
            context.check_cancelled("during the measurement of angular distances")?;
            let block = teacher.layer(layer).ok_or_else(|| Error::internal("no such layer"))?;
            let next = block.forward(&tape, &state, &table, None)?;
            let cpu = |x: &Tensor| x.to_device(&candle_core::Device::Cpu)?.contiguous();
            let (before, after) = (cpu(state.tensor())?, cpu(next.tensor())?);
            let width = before.dim(2)?;
            let (before, after) = (Host::new(&before)?, Host::new(&after)?);
            let rows = before.chunks_exact(width).zip(after.chunks_exact(width));
            *sum += rows.map(|(a, b)| angle(a, b)).sum::<f64>();
            state = next;
        }
        tokens += ids.elem_count();
    }
    if tokens == 0 {
        return Err(Error::input(
            "there is no calibration text for prelude_layers or coda_layers = \"auto\"",
        )
        .hint("raise student.calibration_tokens, or give prelude_layers and coda_layers"));
    }
    Ok(sums.into_iter().map(|sum| sum / tokens as f64).collect())
}

fn angle(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-30);
    cosine.clamp(-1.0, 1.0).acos() / std::f64::consts::PI
}

/// Number of prelude and coda layers: up to the knee of the decreasing distances from either end,
/// the point farthest below the line from that end to the smallest distance. Satopaa et al. 2011.
#[must_use]
pub fn knees(distances: &[f64]) -> (usize, usize) {
    let lowest =
        (0..distances.len()).min_by(|&a, &b| distances[a].total_cmp(&distances[b])).unwrap_or(0);
    let knee = |decreasing: &[f64]| -> usize {
        let last = decreasing.len().saturating_sub(1).max(1);
        let (high, low) = (decreasing[0], decreasing[decreasing.len() - 1]);
        let below = |i: usize| high + (low - high) * i as f64 / last as f64 - decreasing[i];
        (0..decreasing.len())
            .max_by(|&a, &b| below(a).total_cmp(&below(b)).then(b.cmp(&a)))
            .unwrap_or(0)
    };
    let from_top: Vec<f64> = distances[lowest..].iter().rev().copied().collect();
    (knee(&distances[..=lowest]), knee(&from_top))
}

/// The factorization that `student` configures, with `auto` resolved on the `calibration` tokens,
/// each (B, T).
///
/// # Errors
/// It does not fit the teacher, there is no calibration text, or the user stopped it.
pub fn find_split(
    teacher: &Transformer,
    student: &StudentConfig,
    calibration: &[Tensor],
    context: &Context,
) -> Result<LoopedConfig> {
    let (prelude_layers, coda_layers) = match (student.prelude_layers, student.coda_layers) {
        (Layers::Count(prelude), Layers::Count(coda)) => (prelude, coda),
        (prelude, coda) => {
            let (bottom, top) = knees(&angular_distances(teacher, calibration, context)?);
            let resolve = |layers: Layers, knee: usize| match layers {
                Layers::Count(count) => count,
                Layers::Auto(_) => knee,
            };
            (resolve(prelude, bottom), resolve(coda, top))
        }
    };
    let base = match student.width.filter(|&width| width != teacher.base().width) {
        Some(width) => reduced_width_config(teacher.base(), width)?,
        None => teacher.base().clone(),
    };
    let config = LoopedConfig {
        base,
        prelude_layers,
        core_layers: student.core_layers,
        repetitions: student.repetitions,
        coda_layers,
        relaxation: student.relaxation,
        injection: student.injection,
        state_norm: student.state_norm,
        gate: None,
    };
    config.validate()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::knees;

    #[test]
    fn a_flat_middle_between_steep_ends_is_the_core() {
        let distances = [0.5, 0.3, 0.05, 0.04, 0.04, 0.03, 0.04, 0.05, 0.2];
        assert_eq!(knees(&distances), (2, 1));
    }

    #[test]
    fn decreasing_distances_leave_no_coda() {
        assert_eq!(knees(&[0.9, 0.2, 0.1]).1, 0);
    }
}
