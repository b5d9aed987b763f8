//! The results of a depth law.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::{LawRecipe, Target};
use super::needed::{Bracket, Cell, Curve, Needed, curves, needed};
use super::per_task::{TaskLaw, laws};
use crate::data::tasks::{TaskSplit, baselines};
use crate::disk::write_json;
use crate::error::{Error, Result};
use crate::fit::{Estimate, Form, FormFit};
use crate::study::findings::Findings;
use crate::study::format::{short, written};
use crate::study::sweep::job::Role;
use crate::study::sweep::provenance::About;
use crate::study::sweep::{Done, Sweep};

/// Examples used for the shortcut baselines.
const BASELINE_EXAMPLES: u64 = 1024;

/// Accuracy of trivial answers to a task.
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

/// A control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Its name.
    pub name: String,
    /// The task.
    pub task: String,
    /// L / K.
    pub depth_ratio: f64,
    /// Width of the teacher over that of the control.
    pub width_ratio: f64,
    /// Seed, shared with the teacher.
    pub seed: u64,
    /// Accuracy at its N.
    pub accuracy: Option<f64>,
    /// Whether the target is reached.
    pub reached: bool,
    /// Parameters in its blocks.
    pub parameters: usize,
    /// Multiply-adds of its layers over those of its teacher, from layers and widths.
    pub flops_ratio: f64,
}

/// The content of `law.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Law {
    /// Provenance of the study.
    #[serde(flatten)]
    pub about: About,
    /// The target.
    pub target: String,
    /// Exponent of the depth ratio, in the first of `laws`.
    pub exponent: Option<Estimate>,
    /// Exponent of the width ratio, in the first of `laws` that has several widths.
    pub width_exponent: Option<Estimate>,
    /// The form of the first of `laws`.
    pub form: Option<Form>,
    /// Every form of the first of `laws`.
    pub forms: Vec<FormFit>,
    /// One for each task and way of training.
    pub laws: Vec<TaskLaw>,
    /// Repetitions needed by every cell.
    pub points: Vec<Needed>,
    /// Results for every target but the first.
    pub other_targets: Vec<OtherTarget>,
    /// Results of every cell and control at every number of repetitions.
    pub curves: Vec<Curve>,
    /// A control.
    pub controls: Vec<Control>,
    /// Accuracy of trivial answers.
    pub baselines: Vec<Shortcuts>,
}

/// Repetitions needed for another target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OtherTarget {
    /// The target.
    pub target: String,
    /// One for each task and way of training.
    pub laws: Vec<TaskLaw>,
    /// Repetitions needed by every cell, in the order of the first target.
    pub points: Vec<Needed>,
}

fn other(target: Target, done: &[Done]) -> Result<OtherTarget> {
    let points = needed(&curves(done, target));
    Ok(OtherTarget { target: target.to_string(), laws: laws(&points)?, points })
}

/// Fits the law of a study to its points that are done.
///
/// # Errors
/// The recipe names no target, or cannot be written.
pub fn measure(recipe: &LawRecipe, sweep: &Sweep) -> Result<Law> {
    let done: Vec<Done> = sweep.points().iter().filter_map(|point| sweep.done(point)).collect();
    let (&target, others) =
        recipe.targets.split_first().ok_or_else(|| Error::input("targets is empty"))?;
    let curves = curves(&done, target);
    let points = needed(&curves);
    let laws = laws(&points)?;
    let first = laws.first().map(|law| &law.found);
    Ok(Law {
        about: About::new(&recipe.name, recipe, sweep, done.len())?,
        exponent: first.map(|found| found.exponent.clone()),
        width_exponent: laws.iter().find_map(|law| law.found.second_exponent.clone()),
        form: first.and_then(|found| found.form),
        forms: first.map(|found| found.forms.clone()).unwrap_or_default(),
        target: target.to_string(),
        points,
        other_targets: others.iter().map(|&one| other(one, &done)).collect::<Result<_>>()?,
        laws,
        controls: curves.iter().filter_map(control).collect(),
        curves,
        baselines: shortcuts(recipe)?,
    })
}

fn control(curve: &Curve) -> Option<Control> {
    let cell = &curve.cell;
    let name = match cell.trained {
        Role::AtN | Role::RandomN => return None,
        Role::Untied => "untied".to_owned(),
        Role::Scratch => "no teacher".to_owned(),
        Role::Lora => format!("corrected each repetition, {}", cell.student),
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
    /// Every target with the repetitions each cell needs for it.
    fn targets(&self) -> impl Iterator<Item = (&str, &[TaskLaw], &[Needed])> {
        let others = self.other_targets.iter();
        let others = others.map(|one| (one.target.as_str(), &one.laws[..], &one.points[..]));
        std::iter::once((self.target.as_str(), &self.laws[..], &self.points[..])).chain(others)
    }

    fn csv(&self) -> String {
        let mut text = String::from(
            "task,teacher,student,depth_ratio,width_ratio,seed,trained,low,high,cluster,target\n",
        );
        let rows = self.targets().flat_map(|(target, _, points)| {
            points.iter().map(move |point| (target, &point.cell, point.needed))
        });
        for (target, cell, Bracket { low, high }) in rows {
            let Cell { task, teacher, student, depth_ratio, width_ratio, seed, .. } = cell;
            let high = high.map(|high| high.to_string()).unwrap_or_default();
            let trained = written(&cell.trained);
            // Writing to a string never fails.
            let _ = writeln!(
                text,
                "{task},{teacher},{student},{depth_ratio},{width_ratio},{seed},{trained},{low},\
                 {high},{task}/{teacher}/{seed},{target}"
            );
        }
        text
    }
}

/// Laws that could not be fitted, in one sentence for each reason.
fn undetermined(target: &str, laws: &[&TaskLaw]) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for law in laws {
        let reason = law.reason();
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, subjects)) => subjects.push(law.subject()),
            None => reasons.push((reason, vec![law.subject()])),
        }
    }
    let sentence = |(reason, subjects): (String, Vec<String>)| {
        format!("{target}: no law could be fitted, because {reason}: {}", subjects.join("; "))
    };
    reasons.into_iter().map(sentence).collect()
}

impl Findings for Law {
    fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join("law.json"), self)?;
        crate::disk::write_atomically(&folder.join("points.csv"), self.csv().as_bytes())
    }

    /// One row for each cell: repetitions needed for the first target, by seed.
    fn tables(&self) -> Vec<Vec<Vec<String>>> {
        let head =
            ["task", "teacher", "student", "trained", "depth ratio", "width ratio", "needed"];
        let mut rows: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        for Needed { cell, needed } in &self.points {
            let key = vec![
                cell.task.clone(),
                cell.teacher.clone(),
                cell.student.clone(),
                written(&cell.trained),
                short(cell.depth_ratio),
                short(cell.width_ratio),
            ];
            let needed = match needed.high {
                Some(high) => format!("{high}"),
                None => format!("> {}", needed.low),
            };
            match rows.iter_mut().find(|(known, _)| *known == key) {
                Some((_, all)) => all.push(needed),
                None => rows.push((key, vec![needed])),
            }
        }
        let rows = rows.into_iter().map(|(mut row, needed)| {
            row.push(needed.join(", "));
            row
        });
        vec![std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect()]
    }

    /// The accuracy of the teachers (a student that matches an untrained one shows nothing), every law
    /// of the first target, and the first law of the others.
    fn sentences(&self) -> Vec<String> {
        let (done, total) = (self.about.points_done, self.about.points_total);
        let mut sentences = vec![format!("{done} of {total} points")];
        let teachers = self.curves.iter().filter_map(|curve| curve.teacher_accuracy);
        let ends = teachers.fold(None, |ends: Option<(f64, f64)>, accuracy| {
            let (low, high) = ends.unwrap_or((accuracy, accuracy));
            Some((low.min(accuracy), high.max(accuracy)))
        });
        sentences.extend(ends.map(|(low, high)| {
            format!("teachers answer {:.1} to {:.1} % right", 100.0 * low, 100.0 * high)
        }));
        for (place, (target, laws, _)) in self.targets().enumerate() {
            let most = if place == 0 { laws.len() } else { 1 };
            let (fitted, unknown): (Vec<_>, Vec<_>) =
                laws.iter().take(most).partition(|law| law.is_determined());
            sentences.extend(fitted.iter().map(|law| format!("{target}: {}", law.sentence())));
            sentences.extend(undetermined(target, &unknown));
        }
        sentences
    }
}
