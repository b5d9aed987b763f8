//! Alignment: the teacher layer whose state each state of the core is trained towards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::looped_config::LoopedConfig;

/// The rule that pairs states of the core with states of the teacher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Alignment {
    /// Equal steps through the teacher's middle, rounded to a layer.
    Uniform,
    /// Equal steps; between two layers their states are interpolated.
    #[default]
    Interpolated,
    /// The non-decreasing pairing of least distance, computed on every batch. Under teacher forcing,
    /// which has no free-running states to pair, equal steps as in `uniform`.
    Monotone,
}

/// A depth in the teacher: its state `lower`, interpolated with the next one by `fraction`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TeacherLayer {
    /// Index into the teacher's states, 0 for the embedding.
    pub lower: usize,
    /// Weight of state `lower + 1`, in 0..1.
    pub fraction: f64,
}

/// The teacher layers of `count` equally spaced states of the core; the last one is aligned with the
/// end of the teacher's middle.
#[must_use]
pub fn equal_steps(config: &LoopedConfig, count: usize, alignment: Alignment) -> Vec<TeacherLayer> {
    let middle = config.middle();
    (1..=count)
        .map(|step| {
            let depth = step as f64 * middle.len() as f64 / count as f64;
            let depth = if alignment == Alignment::Interpolated { depth } else { depth.round() };
            // The epsilon keeps 3 * (1/3) from rounding down to the layer below.
            let layer = (depth + 1e-9).floor();
            let fraction = (depth - layer).max(0.0);
            let fraction = if fraction < 1e-6 { 0.0 } else { fraction };
            TeacherLayer { lower: middle.start + layer as usize, fraction }
        })
        .collect()
}

/// The non-decreasing pairing of least cost: `costs[i][j]` is the distance of the core's state `i`
/// from the state after the first `j` layers of the middle; the last state is paired with the last.
/// Dynamic programming, O(rows x columns).
#[must_use]
pub fn monotone(config: &LoopedConfig, costs: &[Vec<f64>]) -> Vec<TeacherLayer> {
    let columns = costs.first().map_or(0, Vec::len);
    let mut best: Vec<Vec<f64>> = Vec::with_capacity(costs.len());
    let mut origins: Vec<Vec<usize>> = Vec::with_capacity(costs.len());
    for (row, cost) in costs.iter().enumerate() {
        let (mut totals, mut previous) = (vec![0.0; columns], vec![0; columns]);
        let mut cheapest = 0;
        for column in 0..columns {
            if row > 0 && best[row - 1][column] < best[row - 1][cheapest] {
                cheapest = column;
            }
            previous[column] = cheapest;
            totals[column] = cost[column] + if row > 0 { best[row - 1][cheapest] } else { 0.0 };
        }
        best.push(totals);
        origins.push(previous);
    }
    let mut column = columns.saturating_sub(1);
    let mut depths = vec![TeacherLayer { lower: 0, fraction: 0.0 }; costs.len()];
    for row in (0..costs.len()).rev() {
        depths[row].lower = config.middle().start + column;
        column = origins[row][column];
    }
    depths
}
