//! The results of a halting study: repetitions spent against the length of the chain.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::config::ExitsRecipe;
use super::stops::{Exits, Rule};
use crate::data::tasks::TaskSupervision;
use crate::disk::write_json;
use crate::error::Result;
use crate::study::findings::Findings;
use crate::study::format::written;
use crate::study::sweep::job::ExitsJob;
use crate::study::sweep::provenance::About;
use crate::study::sweep::{Job, Outcome, Sweep};

/// The content of `exits.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExitsStudy {
    /// Which study it is.
    #[serde(flatten)]
    pub about: About,
    /// One for each learner of which a seed is done.
    pub learners: Vec<LearnerExits>,
}

/// What a learner gave, over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearnerExits {
    /// The task, with its longest chain.
    pub task: String,
    /// What was asked after each step.
    pub told: TaskSupervision,
    /// Those that are done.
    pub seeds: Vec<u64>,
    /// Means over them.
    pub mean: Exits,
    /// Each.
    pub runs: Vec<Exits>,
}

/// Brings together what the points of a study that are done gave.
///
/// # Errors
/// The recipe cannot be written.
pub fn measure(recipe: &ExitsRecipe, sweep: &Sweep) -> Result<ExitsStudy> {
    let mut learners: Vec<(ExitsJob, LearnerExits)> = Vec::new();
    let mut points_done = 0;
    for done in sweep.points().iter().filter_map(|point| sweep.done(point)) {
        points_done += 1;
        let (Job::Exits(job), Outcome::Exits(found)) = (done.job, done.outcome) else { continue };
        let seed = job.learner.seed;
        let place = learners.iter().position(|(other, _)| same_but_seed(other, &job));
        let place = place.unwrap_or_else(|| {
            let task = job.learner.task.label();
            let mean = Exits::default();
            let new = LearnerExits { task, told: job.told, seeds: vec![], mean, runs: vec![] };
            learners.push((job, new));
            learners.len() - 1
        });
        learners[place].1.seeds.push(seed);
        learners[place].1.runs.push(found);
    }
    let averaged =
        |(_, one): (_, LearnerExits)| LearnerExits { mean: Exits::mean(&one.runs), ..one };
    Ok(ExitsStudy {
        about: About::new(&recipe.name, recipe, sweep, points_done)?,
        learners: learners.into_iter().map(averaged).collect(),
    })
}

fn same_but_seed(a: &ExitsJob, b: &ExitsJob) -> bool {
    let mut a = a.clone();
    a.learner.seed = b.learner.seed;
    a == *b
}

impl LearnerExits {
    /// A head, a row for each rule, and what is answered right at N.
    fn table(&self) -> Vec<Vec<String>> {
        let lengths = self.mean.lengths.iter().map(|at| format!("length {}", at.length));
        let head = ["repetitions", "right %", "changed %", "rank correlation"].map(str::to_owned);
        let name = format!("{}, told {}", self.task, written(&self.told));
        let mut rows: Vec<Vec<String>> =
            vec![std::iter::once(name).chain(head).chain(lengths).collect()];
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        for (at, rule) in self.mean.rules.iter().enumerate() {
            let mut row = vec![rule.name.clone(), format!("{:.2}", rule.mean_repetitions)];
            row.extend([percent(rule.right), percent(rule.changed), self.correlation(at, rule)]);
            row.extend(rule.stops.iter().map(|stop| format!("{stop:.2}")));
            rows.push(row);
        }
        let right = self.mean.lengths.iter().map(|at| percent(*at.right.last().unwrap_or(&0.0)));
        let none = ["", "", "", ""].map(str::to_owned);
        let last = format!("right % after all {}", self.mean.repetitions);
        rows.push(std::iter::once(last).chain(none).chain(right).collect());
        rows
    }

    /// The mean over seeds, between the least and the greatest.
    fn correlation(&self, at: usize, rule: &Rule) -> String {
        let each = self.runs.iter().filter_map(|run| run.rules.get(at)?.rank_correlation);
        let (low, high) = each.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), found| {
            (low.min(found), high.max(found))
        });
        match rule.rank_correlation {
            None => "-".to_owned(),
            Some(mean) if self.runs.len() < 2 => format!("{mean:.2}"),
            Some(mean) => format!("{mean:.2} [{low:.2}, {high:.2}]"),
        }
    }
}

impl Findings for ExitsStudy {
    fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join("exits.json"), self)?;
        let mut text = String::from("task,told,seed,rule,length,stop\n");
        for one in &self.learners {
            for (seed, run) in one.seeds.iter().zip(&one.runs) {
                for rule in &run.rules {
                    for (at, stop) in run.lengths.iter().zip(&rule.stops) {
                        let (told, name, length) = (written(&one.told), &rule.name, at.length);
                        // Writing to a text never fails.
                        let _ = writeln!(text, "{},{told},{seed},{name},{length},{stop}", one.task);
                    }
                }
            }
        }
        crate::disk::write_atomically(&folder.join("points.csv"), text.as_bytes())
    }

    fn tables(&self) -> Vec<Vec<Vec<String>>> {
        self.learners.iter().map(LearnerExits::table).collect()
    }
}
