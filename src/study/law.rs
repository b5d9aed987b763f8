//! How do the repetitions needed grow with the size ratio?

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::LawRecipe;
use super::findings::Findings;
use super::job::Role;
use super::machine::machine;
use super::needed::{Cell, Curve, Needed, curves, needed};
use super::sweep::{Done, Failure, Sweep, write_json};
use crate::data::tasks::{TaskSplit, baselines};
use crate::error::{Error, Result};
use crate::fit::{self, Comparison, Estimate, Form, FormFit, Resampling};

/// Of the intervals.
const RESAMPLING: Resampling = Resampling { resamples: 1000, seed: 0 };
/// What the law of all tasks together is called.
const ALL_TASKS: &str = "all tasks";
/// Examples behind the shortcut baselines.
const BASELINE_EXAMPLES: u64 = 1024;

/// What trivial answers to a task score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shortcuts {
    /// The task.
    pub task: String,
    /// A uniform guess.
    pub chance: f64,
    /// The most frequent answer.
    pub majority: f64,
    /// The best copy of a part of the input.
    pub copy_input: f64,
    /// The best map from the last token.
    pub last_token: f64,
}

/// What was trained to compare with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// What it is.
    pub name: String,
    /// The task.
    pub task: String,
    /// L / K.
    pub depth_ratio: f64,
    /// Width of the teacher over its own.
    pub width_ratio: f64,
    /// Of the teacher.
    pub seed: u64,
    /// At its N.
    pub accuracy: Option<f64>,
    /// Whether the target is reached.
    pub reached: bool,
    /// Numbers in its blocks.
    pub parameters: usize,
    /// Multiply-adds of its layers over those of its teacher's, as layers and widths tell.
    pub flops_ratio: f64,
}

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

/// The content of `law.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Law {
    /// `law`.
    pub kind: String,
    /// Of the recipe.
    pub name: String,
    /// The command that made it.
    pub command: String,
    /// Where.
    pub machine: String,
    /// As TOML.
    pub recipe: String,
    /// When a student is as good as its teacher.
    pub target: String,
    /// Points that are done.
    pub points_done: usize,
    /// Points of the study.
    pub points_total: usize,
    /// Points that failed.
    pub failures: Vec<Failure>,
    /// Of the depth ratio, in the first of `laws`.
    pub exponent: Option<Estimate>,
    /// Of the width ratio, in the first of `laws` that has several widths.
    pub width_exponent: Option<Estimate>,
    /// The form of the first of `laws`.
    pub form: Option<Form>,
    /// Every form of the first of `laws`.
    pub forms: Vec<FormFit>,
    /// One for each task and way of training.
    pub laws: Vec<TaskLaw>,
    /// What every cell needed.
    pub points: Vec<Needed>,
    /// What every cell and control gave at every number of repetitions.
    pub curves: Vec<Curve>,
    /// What was trained to compare with.
    pub controls: Vec<Control>,
    /// What trivial answers score.
    pub baselines: Vec<Shortcuts>,
}

/// Fits the law of a study to its points that are done.
///
/// # Errors
/// The recipe cannot be written.
pub fn measure(recipe: &LawRecipe, sweep: &Sweep) -> Result<Law> {
    let done: Vec<Done> = sweep.points().iter().filter_map(|point| sweep.done(point)).collect();
    let curves = curves(&done, recipe.target);
    let text = toml::to_string(recipe)
        .map_err(|error| Error::internal(format!("writing the recipe: {error}")))?;
    let points = needed(&curves);
    let laws = laws(&points)?;
    let first = laws.first().map(|law| &law.found);
    Ok(Law {
        exponent: first.map(|found| found.exponent.clone()),
        width_exponent: laws.iter().find_map(|law| law.found.second_exponent.clone()),
        form: first.and_then(|found| found.form),
        forms: first.map(|found| found.forms.clone()).unwrap_or_default(),
        kind: "law".to_owned(),
        name: recipe.name.clone(),
        command: sweep.command().to_owned(),
        machine: machine(),
        recipe: text,
        target: recipe.target.to_string(),
        points_done: done.len(),
        points_total: sweep.points().len(),
        failures: sweep.failures(),
        points,
        laws,
        controls: curves.iter().filter_map(control).collect(),
        curves,
        baselines: shortcuts(recipe)?,
    })
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

fn laws(points: &[Needed]) -> Result<Vec<TaskLaw>> {
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

fn control(curve: &Curve) -> Option<Control> {
    let cell = &curve.cell;
    let name = match cell.trained {
        Role::AtN | Role::RandomN => return None,
        Role::Untied => "untied".to_owned(),
        Role::Scratch => "no teacher".to_owned(),
        Role::Lora => "corrected each repetition".to_owned(),
    };
    Some(Control {
        name,
        task: cell.task.clone(),
        depth_ratio: cell.depth_ratio,
        width_ratio: cell.width_ratio,
        seed: cell.seed,
        accuracy: curve.accuracy.last().copied(),
        reached: curve.reached.last().copied().unwrap_or_default(),
        parameters: curve.block_parameters,
        flops_ratio: curve.repetitions.last().copied().unwrap_or_default() as f64
            / (cell.depth_ratio * cell.width_ratio.powi(2)),
    })
}

fn shortcuts(recipe: &LawRecipe) -> Result<Vec<Shortcuts>> {
    let of = |config: &crate::data::tasks::TaskConfig| {
        let task = config.build()?;
        let length = task.chain_length();
        let found = baselines(&task, TaskSplit::Test, 0, BASELINE_EXAMPLES, length)?;
        Ok(Shortcuts {
            task: config.label(),
            chance: found.chance,
            majority: found.majority,
            copy_input: found.copy_input,
            last_token: found.last_token,
        })
    };
    recipe.tasks.iter().map(of).collect()
}

impl Law {
    fn csv(&self) -> String {
        let mut text = String::from(
            "task,teacher,student,depth_ratio,width_ratio,seed,trained,low,high,cluster\n",
        );
        for point in &self.points {
            let cell = &point.cell;
            let Cell { task, teacher, student, depth_ratio, width_ratio, seed, .. } = cell;
            let high = point.needed.high.map(|high| high.to_string()).unwrap_or_default();
            let (low, trained) = (point.needed.low, written(&cell.trained));
            // Writing to a text never fails.
            let _ = writeln!(
                text,
                "{task},{teacher},{student},{depth_ratio},{width_ratio},{seed},{trained},{low},\
                 {high},{task}/{teacher}/{seed}"
            );
        }
        text
    }
}

impl Findings for Law {
    fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join("law.json"), self)?;
        crate::run::write_atomically(&folder.join("points.csv"), self.csv().as_bytes())
    }

    /// A row for each cell: what it needed, by seed.
    fn table(&self) -> Vec<Vec<String>> {
        let head =
            ["task", "teacher", "student", "trained", "depth ratio", "width ratio", "needed"];
        let mut rows: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        for point in &self.points {
            let Cell { task, teacher, student, depth_ratio, width_ratio, trained, .. } =
                &point.cell;
            let cell = vec![
                task.clone(),
                teacher.clone(),
                student.clone(),
                written(trained),
                depth_ratio.to_string(),
                width_ratio.to_string(),
            ];
            let needed = match point.needed.high {
                Some(high) => format!("{high}"),
                None => format!("> {}", point.needed.low),
            };
            match rows.iter_mut().find(|(known, _)| *known == cell) {
                Some((_, all)) => all.push(needed),
                None => rows.push((cell, vec![needed])),
            }
        }
        let head = head.map(str::to_owned).to_vec();
        let rows = rows.into_iter().map(|(mut cell, needed)| {
            cell.push(needed.join(", "));
            cell
        });
        std::iter::once(head).chain(rows).collect()
    }

    fn sentences(&self) -> Vec<String> {
        let mut said = vec![format!(
            "{} of {} points; target: {}",
            self.points_done, self.points_total, self.target
        )];
        for law in &self.laws {
            let found = &law.found;
            let form = found.form.map_or("no form".to_owned(), |form| written(&form));
            let width = law.width_ratio.map(|ratio| format!(", width / {ratio}"));
            let mut text = format!(
                "{}, {}{}: N ~ (depth ratio)^{}",
                law.task,
                written(&law.trained),
                width.unwrap_or_default(),
                estimate(&found.exponent)
            );
            if let Some(width) = &found.second_exponent {
                text = format!("{text} (width ratio)^{}", estimate(width));
            }
            let (censored, rows) = (found.right_censored, found.rows);
            let text = format!(
                "{text}; best form: {form}; {censored} of {rows} cells needed more than was tried"
            );
            said.extend([Some(text), found.note.clone()].into_iter().flatten());
        }
        said
    }
}

/// A number and its interval, or why there is none.
pub(super) fn estimate(found: &Estimate) -> String {
    match (found.estimate, found.low, found.high) {
        (Some(value), Some(low), Some(high)) => format!("{value:.2} [{low:.2}, {high:.2}]"),
        (Some(value), ..) => format!("{value:.2}"),
        _ => format!("? ({})", found.note.as_deref().unwrap_or("not determined")),
    }
}

/// A choice as recipes and results write it.
pub(super) fn written(choice: &impl Serialize) -> String {
    let value = serde_json::to_value(choice).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
