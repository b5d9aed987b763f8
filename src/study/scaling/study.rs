//! The results of a scaling study.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::config::{ScalingRecipe, Way};
use super::law::{FittedLaw, ScalingPoint};
use crate::disk::write_json;
use crate::error::Result;
use crate::fit::horizon::{self, Answers};
use crate::fit::saturating::{self, Reached};
use crate::fit::{Estimate, Needed, Resampling, Run, chain, joint};
use crate::study::findings::Findings;
use crate::study::format::{estimate, written};
use crate::study::sweep::job::{LearnerJob, SamplesJob};
use crate::study::sweep::provenance::About;
use crate::study::sweep::{Done, Job, Outcome, Sweep};

/// Resampling of the intervals of curves.
const MANY: Resampling = Resampling { resamples: 1000, seed: 0 };
/// Resampling of the intervals of surfaces, which take a hundred times as long.
const FEW: Resampling = Resampling { resamples: 200, seed: 0 };

/// Multiple of chance below which answers count as guesses.
const CLEARLY_ABOVE: f64 = 2.0;

/// The content of `scaling.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaling {
    /// Provenance of the study.
    #[serde(flatten)]
    pub about: About,
    /// The fitted laws.
    pub laws: Vec<FittedLaw>,
}

/// Fits the laws of a study to its points that are done.
///
/// # Errors
/// The recipe cannot be written, or a fit refuses what was measured.
pub fn measure(recipe: &ScalingRecipe, sweep: &Sweep) -> Result<Scaling> {
    let done: Vec<Done> = sweep.points().iter().filter_map(|point| sweep.done(point)).collect();
    let mut laws = samples(recipe, &done)?;
    laws.extend(horizons(&done)?);
    laws.extend(language(&done)?);
    laws.extend(test_time(&done)?);
    Ok(Scaling { about: About::new(&recipe.name, recipe, sweep, done.len())?, laws })
}

/// Examples needed against the length of the chain, for each way of supervision.
fn samples(recipe: &ScalingRecipe, done: &[Done]) -> Result<Vec<FittedLaw>> {
    let ways = recipe.samples.iter().flat_map(|samples| samples.ways.iter().copied());
    let law = |way: Way| {
        let is_so = |job: &SamplesJob| {
            let length = job.learner.task.length();
            (job.learner.supervision, job.shortest) == way.teaches(length)
        };
        let (mut rows, mut points) = (Vec::new(), Vec::new());
        for one in done {
            let (Job::Samples(job), Outcome::Enough(found)) = (&one.job, &one.outcome) else {
                continue;
            };
            if !is_so(job) {
                continue;
            }
            let (x, seed) = (job.learner.task.length() as f64, job.learner.seed);
            let (low, high) = (found.low as f64, found.high.map(|high| high as f64));
            let series = written(&way);
            points.push(ScalingPoint {
                series,
                x,
                y: None,
                low: Some(low),
                high,
                seed: Some(seed),
            });
            rows.push(Needed { ratios: vec![x], low, high, cluster: seed.to_string() });
        }
        let base = FittedLaw {
            name: format!("examples needed, {}", written(&way)),
            question: "Do the examples needed grow with the length of the chain: not at all, \
                       sublinearly, linearly, superlinearly?"
                .to_owned(),
            x_label: "steps of the chain".to_owned(),
            y_label: "examples needed".to_owned(),
            points,
            ..FittedLaw::default()
        };
        if rows.is_empty() {
            return Ok(FittedLaw { note: Some("no point is done".to_owned()), ..base });
        }
        let found = chain::fit(&rows, MANY)?;
        Ok(base.of_forms(&found)?.answer("exponent of the length", &found.exponent))
    };
    ways.map(law).collect()
}

/// Accuracy against the length of the chain, by the size of the block, where answers are clearly
/// better than chance.
fn horizons(done: &[Done]) -> Result<Vec<FittedLaw>> {
    let mut by_width: BTreeMap<usize, (Vec<Answers>, Vec<ScalingPoint>)> = BTreeMap::new();
    let mut chance = 0.0_f64;
    for one in done {
        let (Job::Learner(job), Outcome::Measured(found)) = (&one.job, &one.outcome) else {
            continue;
        };
        let (answers, points) = by_width.entry(job.model.width).or_default();
        chance = chance.max(job.task.build()?.chance(job.task.length()));
        for (length, accuracy) in found.repetitions.iter().zip(&found.accuracy) {
            let (trials, x) = (found.examples as u64, *length as f64);
            let correct = (accuracy * found.examples as f64).round() as u64;
            answers.push(Answers { length: x, correct, trials });
            points.push(point_of(job, x, *accuracy));
        }
    }
    let law = |(width, (answers, points)): (usize, (Vec<Answers>, Vec<ScalingPoint>))| {
        let found = horizon::fit(&above_chance(answers, chance), MANY)?;
        let base = FittedLaw {
            name: format!("horizon, width {width}"),
            question: "Do steps fail independently (kappa 1), do errors breed errors (above), or \
                       are they mended (below)?"
                .to_owned(),
            x_label: "steps".to_owned(),
            y_label: "accuracy".to_owned(),
            form: Some("weibull".to_owned()),
            note: Some(format!("half are right after {} steps", estimate(&found.horizon_50))),
            points,
            ..FittedLaw::default()
        };
        base.answer("kappa", &found.kappa).detailed(&found)
    };
    by_width.into_iter().map(law).collect()
}

/// The lengths before accuracy comes near chance, since the Weibull form has no floor. The shortest
/// length is always kept.
fn above_chance(answers: Vec<Answers>, chance: f64) -> Vec<Answers> {
    let mut lengths: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for answer in &answers {
        let (correct, trials) = lengths.entry(answer.length.to_bits()).or_default();
        (*correct, *trials) = (*correct + answer.correct, *trials + answer.trials);
    }
    // The bits of positive numbers are ordered as the numbers are.
    let guessed =
        |(correct, trials): &(u64, u64)| *correct as f64 <= CLEARLY_ABOVE * chance * *trials as f64;
    let end = lengths.iter().skip(1).find(|(_, counts)| guessed(counts)).map(|(bits, _)| *bits);
    let above = |answer: &Answers| end.is_none_or(|end| answer.length.to_bits() < end);
    answers.into_iter().filter(above).collect()
}

fn point_of(job: &LearnerJob, x: f64, accuracy: f64) -> ScalingPoint {
    let series = format!("width {}", job.model.width);
    ScalingPoint { series, x, y: Some(accuracy), seed: Some(job.seed), ..ScalingPoint::default() }
}

/// L = E + A (`N_once` + r^phi `N_rec`)^-alpha + B D^-beta.
fn language(done: &[Done]) -> Result<Vec<FittedLaw>> {
    let (mut runs, mut points) = (Vec::new(), Vec::new());
    for one in done {
        let (Job::Language(job), Outcome::LanguageModelScore(found)) = (&one.job, &one.outcome)
        else {
            continue;
        };
        let crate::study::sweep::job::LanguageModelScore {
            n_once,
            n_rec,
            repetitions,
            tokens,
            loss,
            ..
        } = *found;
        runs.push(Run { n_once, n_rec, repetitions, tokens, loss });
        points.push(ScalingPoint {
            series: format!("{repetitions} repetitions, {tokens} tokens"),
            x: n_once + n_rec,
            y: Some(loss),
            seed: Some(job.seed),
            ..ScalingPoint::default()
        });
    }
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let base = FittedLaw {
        name: "loss on text".to_owned(),
        question: "What is a repetition worth beside a layer of its own (phi 1) and beside none \
                   (phi 0)?"
            .to_owned(),
        x_label: "parameters in the layers".to_owned(),
        y_label: "loss, nats".to_owned(),
        points,
        ..FittedLaw::default()
    };
    let found = match joint::fit(&runs, spread(&runs), FEW) {
        Ok(found) => found,
        Err(error) => {
            return Ok(vec![FittedLaw { note: Some(error.message().to_owned()), ..base }]);
        }
    };
    let form = Some("E + A (N_once + r^phi N_rec)^-alpha + B D^-beta".to_owned());
    let left = found.extrapolation.as_ref().and_then(|found| found.relative_error);
    let note =
        left.map(|error| format!("largest runs left out: predicted to {:.2} %", 100.0 * error));
    let law = FittedLaw { form, note, ..base };
    Ok(vec![law.answer("phi", &found.parameters.phi).detailed(&found)?])
}

/// Where residuals stop counting as squares: the median deviation between seeds of a cell, relative
/// to the loss; a thousandth where every cell has one seed.
fn spread(runs: &[Run]) -> f64 {
    let cell = |run: &Run| [run.n_once, run.n_rec, run.repetitions, run.tokens].map(f64::to_bits);
    let mut cells: BTreeMap<[u64; 4], Vec<f64>> = BTreeMap::new();
    runs.iter().for_each(|run| cells.entry(cell(run)).or_default().push(run.loss));
    let deviation = |losses: &Vec<f64>| {
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        let squares = losses.iter().map(|loss| (loss / mean - 1.0).powi(2)).sum::<f64>();
        (losses.len() > 1).then(|| (squares / (losses.len() - 1) as f64).sqrt())
    };
    let mut all: Vec<f64> = cells.values().filter_map(deviation).filter(|d| *d > 0.0).collect();
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(1e-3)
}

/// Loss of a text model trained at N, evaluated at 1 to N repetitions.
fn test_time(done: &[Done]) -> Result<Vec<FittedLaw>> {
    let mut laws = Vec::new();
    let mut best: Option<(
        &crate::study::sweep::job::LanguageJob,
        &crate::study::sweep::job::LanguageModelScore,
    )> = None;
    for one in done {
        let (Job::Language(job), Outcome::LanguageModelScore(found)) = (&one.job, &one.outcome)
        else {
            continue;
        };
        if best.is_none_or(|(_, before)| found.repetitions > before.repetitions) {
            best = Some((job, found));
        }
    }
    let Some((job, found)) = best.filter(|(_, found)| found.repetitions >= 3.0) else {
        return Ok(laws);
    };
    let within = found.by_repetition.iter().filter(|(n, _)| *n as f64 <= found.repetitions);
    let reached: Vec<Reached> =
        within.map(|&(n, loss)| Reached { repetitions: n as f64, loss }).collect();
    let fitted = saturating::fit(&reached, MANY)?;
    let points = found.by_repetition.iter().map(|&(n, loss)| ScalingPoint {
        series: format!("trained at {}", found.repetitions),
        x: n as f64,
        y: Some(loss),
        seed: Some(job.seed),
        ..ScalingPoint::default()
    });
    let base = FittedLaw {
        name: "loss at test time".to_owned(),
        question: "How fast does one model's loss fall with its repetitions?".to_owned(),
        x_label: "repetitions".to_owned(),
        y_label: "loss, nats".to_owned(),
        form: Some("L + Z e^(-zeta N)".to_owned()),
        points: points.collect(),
        ..FittedLaw::default()
    };
    laws.push(base.answer("zeta", &fitted.rate).detailed(&fitted)?);
    Ok(laws)
}

impl Findings for Scaling {
    fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join("scaling.json"), self)?;
        let mut text = String::from("law,series,x,y,low,high,seed\n");
        let cell = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        for law in &self.laws {
            for point in &law.points {
                let seed = point.seed.map(|seed| seed.to_string()).unwrap_or_default();
                let [y, low, high] = [point.y, point.low, point.high].map(cell);
                // Writing to a string never fails.
                let _ = writeln!(
                    text,
                    "\"{}\",\"{}\",{},{y},{low},{high},{seed}",
                    law.name, point.series, point.x
                );
            }
        }
        crate::disk::write_atomically(&folder.join("points.csv"), text.as_bytes())
    }

    fn tables(&self) -> Vec<Vec<Vec<String>>> {
        let head = ["law", "number", "estimate", "form", "note"].map(str::to_owned).to_vec();
        let row = |law: &FittedLaw| {
            let (estimate, low, high) = (law.estimate, law.low, law.high);
            let found = Estimate { estimate, low, high, note: None };
            vec![
                law.name.clone(),
                law.parameter.clone(),
                crate::study::format::estimate(&found),
                law.form.clone().unwrap_or_default(),
                law.note.clone().unwrap_or_default(),
            ]
        };
        vec![std::iter::once(head).chain(self.laws.iter().map(row)).collect()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_from_the_first_that_is_guessed_on_are_left_out() {
        let answer = |length: f64, correct| Answers { length, correct, trials: 100 };
        let all = vec![answer(1.0, 99), answer(2.0, 40), answer(4.0, 12), answer(9.0, 60)];
        let above = above_chance(all.clone(), 0.1);
        assert_eq!(above, all[..2]);
        // Two seeds of one length count together.
        let both = vec![answer(1.0, 99), answer(2.0, 10), answer(2.0, 90), answer(3.0, 5)];
        assert_eq!(above_chance(both.clone(), 0.1), both[..3]);
        assert_eq!(above_chance(vec![answer(1.0, 3)], 0.1).len(), 1);
    }
}
