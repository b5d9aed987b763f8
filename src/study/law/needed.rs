//! Repetitions needed: the fewest at which a student reaches the target.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Target;
use crate::model::Relaxation;
use crate::study::sweep::job::{Measured, Role};
use crate::study::sweep::{Done, Job, Outcome};

/// The bracket of the fewest repetitions that reach the target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bracket {
    /// The most repetitions tried that miss the target; 0 if the fewest tried reach it.
    pub low: f64,
    /// The fewest repetitions that reach it; `None` if none of those tried do.
    pub high: Option<f64>,
}

/// A cell of the grid: one student of one teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The task.
    pub task: String,
    /// The teacher, as layers x width.
    pub teacher: String,
    /// The student, as core x width, and the rank of the LoRA of each repetition.
    pub student: String,
    /// L / K.
    pub depth_ratio: f64,
    /// Width of the teacher over that of the student.
    pub width_ratio: f64,
    /// Seed of both.
    pub seed: u64,
    /// Trained at the N it is measured at, at sampled ones, or as a control.
    pub trained: Role,
}

/// Repetitions needed by a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Needed {
    /// The cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// The bracket.
    pub needed: Bracket,
}

/// Results of a cell or a control at every number of repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// The teacher's accuracy.
    pub teacher_accuracy: Option<f64>,
    /// N.
    pub repetitions: Vec<usize>,
    /// At each N.
    pub accuracy: Vec<f64>,
    /// At each N.
    pub agreement: Vec<f64>,
    /// At each N, nats.
    pub kl_nats: Vec<f64>,
    /// Whether the target is reached at each N.
    pub reached: Vec<bool>,
    /// Parameters in the blocks of the student.
    pub block_parameters: usize,
}

impl Target {
    /// Whether the unfavourable bound reaches the target, for each measured number of repetitions.
    #[must_use]
    pub fn reached(self, measured: &Measured) -> Vec<bool> {
        let check = |values: &[f64], holds: &dyn Fn(f64) -> bool| {
            values.iter().map(|&value| holds(value)).collect()
        };
        match self {
            Self::Accuracy { within } => check(&measured.behind_high, &|behind| behind <= within),
            Self::Agreement { least } => check(&measured.agreement_low, &|low| low >= least),
            Self::Kl { most } => check(&measured.kl_high, &|high| high <= most),
        }
    }
}

/// The cell of a student of a task or a text.
fn cell(job: &Job) -> Option<Cell> {
    let mut lora = String::new();
    let (task, layers, width, core, own, seed, trained) = match job {
        Job::Student(job) => {
            let model = &job.teacher.model;
            let (layers, width, name) = (model.layers, model.width, job.teacher.task.label());
            if let Relaxation::Lora { rank } = job.relaxation {
                lora = format!(" + rank {rank}");
            }
            (name, layers, width, job.core_layers, job.width, job.seed, job.role)
        }
        Job::Text(job) => {
            let (layers, width) = (job.teacher_layers, job.teacher_width);
            ("text".to_owned(), layers, width, job.core_layers, job.width, job.seed, job.role)
        }
        _ => return None,
    };
    Some(Cell {
        task,
        teacher: format!("{layers} x {width}"),
        student: format!("{core} x {own}{lora}"),
        depth_ratio: layers as f64 / core as f64,
        width_ratio: width as f64 / own as f64,
        seed,
        trained,
    })
}

fn curve(cell: Cell, measured: &Measured, target: Target) -> Curve {
    Curve {
        cell,
        teacher_accuracy: measured.teacher_accuracy,
        repetitions: measured.repetitions.clone(),
        accuracy: measured.accuracy.clone(),
        agreement: measured.agreement.clone(),
        kl_nats: measured.kl_nats.clone(),
        reached: target.reached(measured),
        block_parameters: measured.block_parameters,
    }
}

/// One curve for each cell of the grid and each control, points of the same cell joined.
#[must_use]
pub fn curves(done: &[Done], target: Target) -> Vec<Curve> {
    let mut joined: BTreeMap<(String, String, String, u64, Role), Curve> = BTreeMap::new();
    for point in done {
        let Outcome::Measured(measured) = &point.outcome else { continue };
        let Some(cell) = cell(&point.job) else { continue };
        let curve = curve(cell.clone(), measured, target);
        let key = (cell.task, cell.teacher, cell.student, cell.seed, cell.trained);
        match joined.get_mut(&key) {
            None => {
                joined.insert(key, curve);
            }
            Some(before) => {
                before.repetitions.extend(curve.repetitions);
                before.accuracy.extend(curve.accuracy);
                before.agreement.extend(curve.agreement);
                before.kl_nats.extend(curve.kl_nats);
                before.reached.extend(curve.reached);
            }
        }
    }
    joined.into_values().map(sorted).collect()
}

/// Sorts the results by N.
fn sorted(curve: Curve) -> Curve {
    let mut order: Vec<usize> = (0..curve.repetitions.len()).collect();
    order.sort_by_key(|&place| curve.repetitions[place]);
    let ordered = |values: &[f64]| order.iter().filter_map(|&at| values.get(at).copied()).collect();
    Curve {
        repetitions: order.iter().map(|&at| curve.repetitions[at]).collect(),
        accuracy: ordered(&curve.accuracy),
        agreement: ordered(&curve.agreement),
        kl_nats: ordered(&curve.kl_nats),
        reached: order.iter().filter_map(|&at| curve.reached.get(at).copied()).collect(),
        ..curve
    }
}

/// Repetitions needed by each cell of the grid; controls are left out.
#[must_use]
pub fn needed(curves: &[Curve]) -> Vec<Needed> {
    let cells =
        curves.iter().filter(|curve| matches!(curve.cell.trained, Role::AtN | Role::RandomN));
    cells.map(bracket_of).collect()
}

fn bracket_of(curve: &Curve) -> Needed {
    let first = curve.reached.iter().position(|&reached| reached);
    let at = |place: usize| curve.repetitions.get(place).map(|&n| n as f64);
    let low = match first {
        Some(0) => None,
        Some(place) => at(place - 1),
        None => at(curve.repetitions.len().saturating_sub(1)),
    };
    let needed = Bracket { low: low.unwrap_or(0.0), high: first.and_then(at) };
    Needed { cell: curve.cell.clone(), needed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(behind_high: &[f64]) -> Measured {
        Measured { behind_high: behind_high.to_vec(), ..Measured::default() }
    }

    #[test]
    fn a_bound_above_the_target_does_not_reach_it() {
        let target = Target::Accuracy { within: 0.01 };
        assert_eq!(
            target.reached(&measured(&[0.3, 0.011, 0.01, -0.2])),
            [false, false, true, true]
        );
    }

    #[test]
    fn the_bracket_lies_between_two_numbers_that_were_tried() {
        let cell = Cell {
            task: String::new(),
            teacher: String::new(),
            student: String::new(),
            depth_ratio: 8.0,
            width_ratio: 1.0,
            seed: 0,
            trained: Role::AtN,
        };
        let curve = |reached: &[bool]| Curve {
            cell: cell.clone(),
            teacher_accuracy: None,
            repetitions: vec![2, 4, 8],
            accuracy: vec![],
            agreement: vec![],
            kl_nats: vec![],
            reached: reached.to_vec(),
            block_parameters: 0,
        };
        let bracket = |reached: &[bool]| bracket_of(&curve(reached)).needed;
        assert_eq!(bracket(&[false, false, true]), Bracket { low: 4.0, high: Some(8.0) });
        assert_eq!(bracket(&[true, true, true]), Bracket { low: 0.0, high: Some(2.0) });
        assert_eq!(bracket(&[false, false, false]), Bracket { low: 8.0, high: None });
    }
}
