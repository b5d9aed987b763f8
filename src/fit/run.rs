//! Dispatch of `factorize fit`: a file of measurements and the law to fit.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

use super::comparison::Comparison;
use super::estimate::Resampling;
use super::horizon::{Answers, HorizonReport};
use super::joint::JointReport;
use super::needed::Needed;
use super::surface::Run;
use super::table::Table;
use super::{chain, horizon, joint, law};

/// What is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitKind {
    /// Repetitions needed at size ratios: `ratio` or `depth_ratio`, perhaps `width_ratio`, `low`
    /// and `high` (empty if none sufficed), perhaps `cluster`, or `teacher` and `seed`.
    Law,
    /// Samples needed at lengths: `length` with `samples`, or with `low` and `high`.
    Chain,
    /// Loss over parameters, repetitions and tokens: `n_once`, `n_rec`, `repetitions`, `tokens`,
    /// `loss`.
    Joint,
    /// Accuracy over lengths: `length`, `correct`, `trials`.
    Horizon,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FitReport {
    /// Repetitions needed at size ratios.
    Law(Comparison),
    /// Samples needed at lengths.
    Chain(Comparison),
    /// Loss over parameters, repetitions and tokens.
    Joint(Box<JointReport>),
    /// Accuracy over lengths.
    Horizon(HorizonReport),
}

const MANY: Resampling = Resampling { resamples: 1000, seed: 0 };

/// A surface takes a hundred times as long as a curve; so many are customary (arXiv 2604.21106).
const FEW: Resampling = Resampling { resamples: 200, seed: 0 };

/// Where relative residuals stop counting as squares (Hoffmann et al., arXiv 2203.15556).
const DELTA: f64 = 1e-3;

/// Fits CSV `text` that was read from `place`.
///
/// # Errors
/// The text is not such a table, or its numbers make no sense; line and column are named.
pub fn run(kind: FitKind, text: &str, place: &str) -> Result<FitReport> {
    let table = Table::read(text, place)?;
    let report = match kind {
        FitKind::Law => law::fit(&repetitions(&table)?, MANY).map(FitReport::Law),
        FitKind::Chain => chain::fit(&samples(&table)?, MANY).map(FitReport::Chain),
        FitKind::Joint => {
            joint::fit(&runs(&table)?, DELTA, FEW).map(Box::new).map(FitReport::Joint)
        }
        FitKind::Horizon => horizon::fit(&answers(&table)?, MANY).map(FitReport::Horizon),
    };
    report.map_err(|error: Error| error.at(place))
}

fn repetitions(table: &Table) -> Result<Vec<Needed>> {
    let first = table.first_of(&["ratio", "depth_ratio"]).unwrap_or("ratio");
    let second = table.first_of(&["width_ratio"]);
    let mut ratios: Vec<Vec<f64>> = table.numbers(first)?.into_iter().map(|r| vec![r]).collect();
    if let Some(second) = second {
        for (ratios, second) in ratios.iter_mut().zip(table.numbers(second)?) {
            ratios.push(second);
        }
    }
    needed(table, ratios, table.numbers("low")?, table.optional_numbers("high")?)
}

fn samples(table: &Table) -> Result<Vec<Needed>> {
    let lengths = table.numbers("length")?.into_iter().map(|length| vec![length]).collect();
    if table.first_of(&["samples"]).is_some() {
        let exact = table.numbers("samples")?;
        let high = exact.iter().copied().map(Some).collect();
        return needed(table, lengths, exact, high);
    }
    needed(table, lengths, table.numbers("low")?, table.optional_numbers("high")?)
}

fn needed(
    table: &Table,
    ratios: Vec<Vec<f64>>,
    low: Vec<f64>,
    high: Vec<Option<f64>>,
) -> Result<Vec<Needed>> {
    let rows = ratios.into_iter().zip(low).zip(high).zip(clusters(table)?);
    Ok(rows.map(|(((ratios, low), high), cluster)| Needed { ratios, low, high, cluster }).collect())
}

/// Rows without a cluster are drawn one by one.
fn clusters(table: &Table) -> Result<Vec<String>> {
    let mut names: Vec<&str> = table.first_of(&["cluster"]).into_iter().collect();
    if names.is_empty() {
        names.extend(["teacher", "seed"].into_iter().filter(|n| table.first_of(&[n]).is_some()));
    }
    if names.is_empty() {
        return Ok((0..table.len()).map(|row| row.to_string()).collect());
    }
    let mut clusters = vec![String::new(); table.len()];
    for name in names {
        for (cluster, part) in clusters.iter_mut().zip(table.texts(name)?) {
            // A separator that no field of one line holds.
            cluster.push('\n');
            cluster.push_str(part);
        }
    }
    Ok(clusters)
}

fn runs(table: &Table) -> Result<Vec<Run>> {
    let column = |name: &str| table.numbers(name);
    let (n_once, n_rec, repetitions) =
        (column("n_once")?, column("n_rec")?, column("repetitions")?);
    let (tokens, loss) = (column("tokens")?, column("loss")?);
    let run = |row: usize| Run {
        n_once: n_once[row],
        n_rec: n_rec[row],
        repetitions: repetitions[row],
        tokens: tokens[row],
        loss: loss[row],
    };
    Ok((0..table.len()).map(run).collect())
}

fn answers(table: &Table) -> Result<Vec<Answers>> {
    let counts = table.counts("correct")?.into_iter().zip(table.counts("trials")?);
    let rows = table.numbers("length")?.into_iter().zip(counts);
    Ok(rows.map(|(length, (correct, trials))| Answers { length, correct, trials }).collect())
}
