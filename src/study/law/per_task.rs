//! The laws fitted to the points of a study, one for each kind of task.

use serde::Serialize;

use super::needed::Needed;
use crate::error::{Result, counted};
use crate::fit::{self, Comparison, Resampling};
use crate::study::format::{estimate, written};
use crate::study::sweep::job::Role;

/// Resampling of the intervals.
const RESAMPLING: Resampling = Resampling { resamples: 1000, seed: 0 };

/// The laws of one task and one way of training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskLaw {
    /// The task, or all tasks of a kind.
    pub task: String,
    /// Trained at the N it is measured at, or at sampled ones.
    pub trained: Role,
    /// Width of the teacher over that of the students; `None` for all widths together.
    pub width_ratio: Option<f64>,
    /// Forms side by side, the exponent of the depth ratio and of the width ratio.
    #[serde(flatten)]
    pub found: Comparison,
}

impl TaskLaw {
    /// Whether an exponent could be fitted.
    pub(super) fn is_determined(&self) -> bool {
        let second = self.found.second_exponent.as_ref();
        let estimates = [self.found.exponent.estimate, second.and_then(|found| found.estimate)];
        estimates.iter().any(Option::is_some)
    }

    /// What it is the law of: `pointer 8 3, at-n, 1 / 2 of the width`.
    pub(super) fn subject(&self) -> String {
        let width = self.width_ratio.map(|ratio| format!(", 1 / {ratio} of the width"));
        format!("{}, {}{}", self.task, written(&self.trained), width.unwrap_or_default())
    }

    /// Why no exponent could be fitted.
    pub(super) fn reason(&self) -> String {
        let note = self.found.exponent.note.as_deref().unwrap_or("not determined");
        note.replace("first ratio", "depth ratio").replace("second ratio", "width ratio")
    }

    /// The law as a sentence.
    pub(super) fn sentence(&self) -> String {
        let found = &self.found;
        let mut text =
            format!("{}: N ~ (depth ratio)^{}", self.subject(), estimate(&found.exponent));
        if let Some(width) = &found.second_exponent {
            text = format!("{text} (width ratio)^{}", estimate(width));
        }
        if let Some(form) = found.form {
            text = format!("{text}; best form: {}", written(&form));
        }
        let (censored, rows) = (found.right_censored, counted(found.rows, "cell"));
        let note = found.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        format!("{text}; {censored} of {rows} needed more repetitions than were tried{note}")
    }
}

/// Which points a law is fitted to: those of tasks, and of one width, or of all.
#[derive(Clone)]
struct Part<'a> {
    tasks: Tasks<'a>,
    trained: Role,
    width_ratio: Option<f64>,
}

/// Tasks with one law.
#[derive(Clone, Copy)]
enum Tasks<'a> {
    /// All of a kind.
    Kind(&'a str),
    /// One of several of its kind.
    OneOf(&'a str),
    /// The only one of its kind.
    Only(&'a str),
}

impl Tasks<'_> {
    fn has(self, task: &str) -> bool {
        match self {
            Self::Kind(of) => kind(task) == of,
            Self::OneOf(of) | Self::Only(of) => task == of,
        }
    }
}

impl std::fmt::Display for Tasks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(of) => write!(f, "{of} tasks"),
            Self::OneOf(of) | Self::Only(of) => f.write_str(of),
        }
    }
}

/// The kind of a task (word, pointer, circuit): the first word of its name.
fn kind(task: &str) -> &str {
    task.split(' ').next().unwrap_or(task)
}

/// Teachers of several tasks may differ in depth more than the cores of one do: all of a kind come
/// first. Past the width wall no number of repetitions is enough, and no power of the width: each
/// width has a law of its own, the teacher's first, before those of all widths.
fn parts(points: &[Needed]) -> Vec<Part<'_>> {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut widths: Vec<f64> = Vec::new();
    for Needed { cell, .. } in points {
        let (task, kind) = (cell.task.as_str(), kind(&cell.task));
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, tasks)) if tasks.contains(&task) => {}
            Some((_, tasks)) => tasks.push(task),
            None => kinds.push((kind, vec![task])),
        }
        if !widths.contains(&cell.width_ratio) {
            widths.push(cell.width_ratio);
        }
    }
    widths.sort_unstable_by(f64::total_cmp);
    let mut parts = Vec::new();
    for (kind, tasks) in kinds {
        let (first, others) = match tasks.as_slice() {
            [only] => (Tasks::Only(only), &[][..]),
            several => (Tasks::Kind(kind), several),
        };
        let others = others.iter().map(|task| (Tasks::OneOf(task), false));
        for (tasks, by_width) in std::iter::once((first, widths.len() > 1)).chain(others) {
            for trained in [Role::AtN, Role::RandomN] {
                let each = widths.iter().copied().map(Some).filter(|_| by_width);
                let part = |width_ratio| Part { tasks, trained, width_ratio };
                parts.extend(each.chain([None]).map(part));
            }
        }
    }
    parts
}

/// The law of each part that has points.
///
/// # Errors
/// A bracket of a point is empty.
pub(crate) fn laws(points: &[Needed]) -> Result<Vec<TaskLaw>> {
    let same = |a: f64, b: f64| (a - b).abs() < 1e-9;
    let mut laws = Vec::new();
    for Part { tasks, trained, width_ratio } in parts(points) {
        let is_of = |one: &&Needed| {
            tasks.has(&one.cell.task)
                && one.cell.trained == trained
                && width_ratio.is_none_or(|ratio| same(one.cell.width_ratio, ratio))
        };
        let of: Vec<&Needed> = points.iter().filter(is_of).collect();
        let Some(first) = of.first() else { continue };
        // A task with one depth ratio adds nothing to the law of its kind.
        let depths = of.iter().any(|one| !same(one.cell.depth_ratio, first.cell.depth_ratio));
        if matches!(tasks, Tasks::OneOf(_)) && !depths {
            continue;
        }
        // Students of one width do not determine the width exponent.
        let widths = of.iter().any(|one| !same(one.cell.width_ratio, first.cell.width_ratio));
        let row = |one: &&Needed| fit::Needed {
            ratios: if widths {
                vec![one.cell.depth_ratio, one.cell.width_ratio]
            } else {
                vec![one.cell.depth_ratio]
            },
            low: one.needed.low,
            high: one.needed.high,
            cluster: format!("{}/{}/{}", one.cell.task, one.cell.teacher, one.cell.seed),
        };
        let rows: Vec<fit::Needed> = of.iter().map(row).collect();
        let found = fit::law::fit(&rows, RESAMPLING)?;
        laws.push(TaskLaw { task: tasks.to_string(), trained, width_ratio, found });
    }
    Ok(laws)
}

#[cfg(test)]
mod tests {
    use super::super::needed::{Bracket, Cell};
    use super::*;

    #[test]
    fn each_kind_of_task_has_a_law_of_its_own() {
        let point = |task: &str, depth_ratio: f64, low: f64| Needed {
            cell: Cell {
                task: task.to_owned(),
                teacher: format!("{depth_ratio} x 64"),
                student: "1 x 64".to_owned(),
                depth_ratio,
                width_ratio: 1.0,
                seed: 0,
                trained: Role::AtN,
            },
            needed: Bracket { low, high: Some(low + 1.0) },
        };
        let points = [
            point("pointer 8 2", 2.0, 1.0),
            point("pointer 8 4", 4.0, 3.0),
            point("word s3 4", 4.0, 1.0),
            point("pointer 8 8", 8.0, 7.0),
        ];
        let laws = laws(&points).unwrap();
        let names: Vec<(&str, usize)> =
            laws.iter().map(|law| (law.task.as_str(), law.found.rows)).collect();
        // A pointer task alone has one depth ratio, and is not fitted again.
        assert_eq!(names, [("pointer tasks", 3), ("word s3 4", 1)]);
        let power = laws[0].found.exponent.estimate.unwrap();
        assert!((power - 1.0).abs() < 0.3, "{power}");
    }
}
