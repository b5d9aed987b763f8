//! Repetitions needed: the fewest at which a student reaches the target.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Target;
use crate::model::Relaxation;
use crate::study::sweep::job::{Measured, Role};
use crate::study::sweep::{Done, Job, Outcome};

/// Between which numbers of repetitions the least that reaches the target lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bracket {
    /// The most that was tried below it, and did not; 0: the fewest tried did.
    pub low: f64,
    /// The fewest that did; none: none of those tried.
    pub high: Option<f64>,
}

/// Which student learned from which teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// What is computed.
    pub task: String,
    /// The teacher, as layers x width.
    pub teacher: String,
    /// The student, as core x width, and the rank of what corrects each repetition.
    pub student: String,
    /// L / K.
    pub depth_ratio: f64,
    /// Width of the teacher over that of the student.
    pub width_ratio: f64,
    /// Of both.
    pub seed: u64,
    /// Trained at the N it is measured at, or at drawn ones; or a control.
    pub trained: Role,
}

/// What a cell of the grid needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Needed {
    /// Which.
    #[serde(flatten)]
    pub cell: Cell,
    /// What was needed.
    pub needed: Bracket,
}

/// What a cell or a control gave at every number of repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Which.
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
    /// Numbers in the student's blocks.
    pub block_parameters: usize,
}

impl Target {
    /// At which of the measured numbers of repetitions it is reached, in its unfavourable bound.
    #[must_use]
    pub fn reached(self, found: &Measured) -> Vec<bool> {
        let each = |values: &[f64], holds: &dyn Fn(f64) -> bool| {
            values.iter().map(|&value| holds(value)).collect()
        };
        match self {
            Self::Accuracy { within } => each(&found.behind_high, &|behind| behind <= within),
            Self::Agreement { least } => each(&found.agreement_low, &|low| low >= least),
            Self::Kl { most } => each(&found.kl_high, &|high| high <= most),
        }
    }
}

/// The cell of a student of a task or a text.
fn cell(job: &Job) -> Option<Cell> {
    let mut corrected = String::new();
    let (task, layers, width, core, own, seed, trained) = match job {
        Job::Student(job) => {
            let model = &job.teacher.model;
            let (layers, width, name) = (model.layers, model.width, job.teacher.task.label());
            if let Relaxation::Lora { rank } = job.relaxation {
                corrected = format!(" + rank {rank}");
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
        student: format!("{core} x {own}{corrected}"),
        depth_ratio: layers as f64 / core as f64,
        width_ratio: width as f64 / own as f64,
        seed,
        trained,
    })
}

fn curve(cell: Cell, found: &Measured, target: Target) -> Curve {
    Curve {
        cell,
        teacher_accuracy: found.teacher_accuracy,
        repetitions: found.repetitions.clone(),
        accuracy: found.accuracy.clone(),
        agreement: found.agreement.clone(),
        kl_nats: found.kl_nats.clone(),
        reached: target.reached(found),
        block_parameters: found.block_parameters,
    }
}

/// One curve for each cell of the grid and each control, points of the same cell joined.
#[must_use]
pub fn curves(done: &[Done], target: Target) -> Vec<Curve> {
    let mut joined: BTreeMap<(String, String, String, u64, Role), Curve> = BTreeMap::new();
    for one in done {
        let Outcome::Measured(found) = &one.outcome else { continue };
        let Some(cell) = cell(&one.job) else { continue };
        let curve = curve(cell.clone(), found, target);
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

/// By rising N.
fn sorted(curve: Curve) -> Curve {
    let mut order: Vec<usize> = (0..curve.repetitions.len()).collect();
    order.sort_by_key(|&place| curve.repetitions[place]);
    let pick = |values: &[f64]| order.iter().filter_map(|&at| values.get(at).copied()).collect();
    Curve {
        repetitions: order.iter().map(|&at| curve.repetitions[at]).collect(),
        accuracy: pick(&curve.accuracy),
        agreement: pick(&curve.agreement),
        kl_nats: pick(&curve.kl_nats),
        reached: order.iter().filter_map(|&at| curve.reached.get(at).copied()).collect(),
        ..curve
    }
}

/// What each cell of the grid needed; controls are no cells.
#[must_use]
pub fn needed(curves: &[Curve]) -> Vec<Needed> {
    let cells = curves.iter().filter(|one| matches!(one.cell.trained, Role::AtN | Role::RandomN));
    cells.map(of_curve).collect()
}

fn of_curve(curve: &Curve) -> Needed {
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
    fn what_is_needed_lies_between_two_that_were_tried() {
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
        let found = |reached: &[bool]| of_curve(&curve(reached)).needed;
        assert_eq!(found(&[false, false, true]), Bracket { low: 4.0, high: Some(8.0) });
        assert_eq!(found(&[true, true, true]), Bracket { low: 0.0, high: Some(2.0) });
        assert_eq!(found(&[false, false, false]), Bracket { low: 8.0, high: None });
    }
}
