//! Which laws do the points of a study follow?

use serde::Serialize;

use super::job::Role;
use super::law::{estimate, written};
use super::needed::Needed;
use crate::error::Result;
use crate::fit::{self, Comparison, Resampling};

/// Of the intervals.
const RESAMPLING: Resampling = Resampling { resamples: 1000, seed: 0 };
/// What the law of all tasks together is called.
const ALL_TASKS: &str = "all tasks";

/// The laws of one task and one way of training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskLaw {
    /// The task.
    pub task: String,
    /// Trained at the N it is measured at, or at drawn ones.
    pub trained: Role,
    /// Width of the teacher over that of the students; none: of all widths together.
    pub width_ratio: Option<f64>,
    /// Forms side by side, the exponent of the depth ratio and of the width ratio.
    #[serde(flatten)]
    pub found: Comparison,
}

impl TaskLaw {
    /// It in words.
    pub(super) fn sentence(&self) -> String {
        let found = &self.found;
        let form = found.form.map_or("no form".to_owned(), |form| written(&form));
        let width = self.width_ratio.map(|ratio| format!(", 1 / {ratio} of the width"));
        let (trained, width) = (written(&self.trained), width.unwrap_or_default());
        let depth = estimate(&found.exponent);
        let mut text = format!("{}, {trained}{width}: N ~ (depth ratio)^{depth}", self.task);
        if let Some(width) = &found.second_exponent {
            text = format!("{text} (width ratio)^{}", estimate(width));
        }
        let (censored, rows) = (found.right_censored, found.rows);
        let note = found.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        format!(
            "{text}; best form: {form}; {censored} of {rows} cells needed more than was tried{note}"
        )
    }
}

/// Which points a law is fitted to: those of a task, or of all, and of one width, or of all.
#[derive(Clone, PartialEq)]
struct Part<'a> {
    task: Option<&'a str>,
    trained: Role,
    width_ratio: Option<f64>,
}

/// Teachers of several tasks may differ in depth more than the cores of one do: all tasks come
/// first. Past the width wall no number of repetitions is enough, and no power of the width: each
/// width has a law of its own, the teacher's first, before those of all widths.
fn parts(points: &[Needed]) -> Vec<Part<'_>> {
    let mut tasks: Vec<Option<&str>> = Vec::new();
    let mut widths: Vec<f64> = Vec::new();
    for point in points {
        let cell = &point.cell;
        if !tasks.contains(&Some(cell.task.as_str())) {
            tasks.push(Some(cell.task.as_str()));
        }
        if !widths.contains(&cell.width_ratio) {
            widths.push(cell.width_ratio);
        }
    }
    widths.sort_unstable_by(f64::total_cmp);
    if tasks.len() > 1 {
        tasks.insert(0, None);
    }
    let mut parts = Vec::new();
    for (place, task) in tasks.into_iter().enumerate() {
        for trained in [Role::AtN, Role::RandomN] {
            let each = widths.iter().copied().map(Some).filter(|_| place == 0 && widths.len() > 1);
            parts.extend(each.chain([None]).map(|width_ratio| Part { task, trained, width_ratio }));
        }
    }
    parts
}

/// The law of each part that has points.
///
/// # Errors
/// A bracket of a point makes no sense.
pub(super) fn laws(points: &[Needed]) -> Result<Vec<TaskLaw>> {
    let same = |a: f64, b: f64| (a - b).abs() < 1e-9;
    let mut laws = Vec::new();
    for Part { task, trained, width_ratio } in parts(points) {
        let is_of = |one: &&Needed| {
            task.is_none_or(|task| one.cell.task == task)
                && one.cell.trained == trained
                && width_ratio.is_none_or(|ratio| same(one.cell.width_ratio, ratio))
        };
        let of: Vec<&Needed> = points.iter().filter(is_of).collect();
        let Some(first) = of.first() else { continue };
        // A task of one depth ratio tells nothing that all together do not.
        let depths = of.iter().any(|one| !same(one.cell.depth_ratio, first.cell.depth_ratio));
        if !depths && !laws.is_empty() {
            continue;
        }
        // Students of one width tell nothing of the other ratio.
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
        let task = task.unwrap_or(ALL_TASKS).to_owned();
        laws.push(TaskLaw { task, trained, width_ratio, found });
    }
    Ok(laws)
}
