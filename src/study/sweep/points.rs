//! The points of a study on disk: planned, done, missing and failed.
//!
//! `study.json` holds the kind of a study, its command and the list of its points.
//! `points/<id>.json` holds the result of a point and is written atomically. A point is identified by
//! its job: the same job in another study, or listed twice, is the same point.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::job::{Job, Outcome};
use crate::disk::write_json;
use crate::error::{Error, Result};

/// A piece of work with its place in the study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its place in the order of the study: the same for the same recipe.
    pub index: usize,
    /// The hash of its job.
    pub id: String,
    /// The job.
    pub job: Job,
}

/// A point that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The job.
    pub job: Job,
    /// Its result.
    pub outcome: Outcome,
    /// Wall-clock time of the process that did it.
    pub seconds: f64,
}

/// A point that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its hash.
    pub point: String,
    /// The output of its last attempt.
    pub error: String,
}

/// Which laws a study is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyKind {
    /// Repetitions needed.
    Law,
    /// Size, length and data.
    Scaling,
    /// Halting step against known difficulty.
    Exits,
}

/// The content of `study.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Listed {
    kind: StudyKind,
    command: String,
    points: Vec<Point>,
}

/// The points of a study, in order of their work: jobs that others depend on come first.
#[derive(Debug, Clone)]
pub struct Sweep {
    folder: PathBuf,
    listed: Listed,
    duplicates: usize,
}

impl Sweep {
    /// The points of `jobs`, and of the jobs they need; a job that comes twice is one point.
    ///
    /// # Errors
    /// A number in a job cannot be written.
    pub fn new(folder: &Path, kind: StudyKind, command: &str, jobs: Vec<Job>) -> Result<Self> {
        let mut seen = HashSet::new();
        let (mut points, mut duplicates) = (Vec::new(), 0);
        let needed: Vec<Job> = jobs.iter().filter_map(Job::after).collect();
        let asked = needed.len();
        for (place, job) in needed.into_iter().chain(jobs).enumerate() {
            let id = job.id()?;
            if seen.insert(id.clone()) {
                points.push(Point { index: points.len(), id, job });
            } else if place >= asked {
                duplicates += 1;
            }
        }
        let listed = Listed { kind, command: command.to_owned(), points };
        Ok(Self { folder: folder.to_owned(), listed, duplicates })
    }

    /// The study in a folder, as it was written down; `None` when there is none.
    ///
    /// # Errors
    /// The list of its points is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = list_path(folder);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("reading", &path, &error)),
        };
        let listed = serde_json::from_slice(&text).map_err(|error| {
            Error::input(format!("this list of points is damaged: {error}"))
                .at(path.display())
                .hint("run the command of the study again with --resume: it is rewritten")
        })?;
        Ok(Some(Self { folder: folder.to_owned(), listed, duplicates: 0 }))
    }

    /// Which laws it is of.
    #[must_use]
    pub fn kind(&self) -> StudyKind {
        self.listed.kind
    }

    /// The command that started or resumed it.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.listed.command
    }

    /// All points.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.listed.points
    }

    /// Jobs that are listed more than once.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.duplicates
    }

    /// The folder of the study.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The result of a point; `None` while it is not done or when its file is not a result.
    #[must_use]
    pub fn done(&self, point: &Point) -> Option<Done> {
        let text = std::fs::read(result_path(&self.folder, &point.id)).ok()?;
        let done: Done = serde_json::from_slice(&text).ok()?;
        (done.job == point.job).then_some(done)
    }

    /// Points that are not done.
    #[must_use]
    pub fn missing(&self) -> Vec<&Point> {
        self.points().iter().filter(|point| self.done(point).is_none()).collect()
    }

    /// The output of the last attempt at each point that is not done.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        let failure = |point: &&Point| {
            let error = std::fs::read_to_string(log_path(&self.folder, &point.id)).ok()?;
            let error = error.trim().lines().take(4).collect::<Vec<_>>().join(" ");
            (!error.is_empty()).then(|| Failure { point: point.id.clone(), error })
        };
        self.missing().iter().filter_map(failure).collect()
    }

    /// Writes `study.json`.
    ///
    /// # Errors
    /// The disk is full, or the folder cannot be written to.
    pub fn write(&self) -> Result<()> {
        let points = self.folder.join("points");
        std::fs::create_dir_all(&points)
            .map_err(|error| Error::io("making the folder of points", &points, &error))?;
        write_json(&list_path(&self.folder), &self.listed)
    }
}

/// The point of that hash in the study in `folder`.
///
/// # Errors
/// There is no such study, or no such point in it.
pub fn find(folder: &Path, id: &str) -> Result<Point> {
    let sweep = Sweep::read(folder)?;
    let found = sweep.and_then(|sweep| sweep.points().iter().find(|point| point.id == id).cloned());
    found.ok_or_else(|| Error::input(format!("there is no point `{id}` here")).at(folder.display()))
}

/// Writes the result of a point.
///
/// # Errors
/// The disk is full, or the folder cannot be written to.
pub fn finish(folder: &Path, id: &str, done: &Done) -> Result<()> {
    write_json(&result_path(folder, id), done)
}

/// The log file of a point.
pub(crate) fn log_path(folder: &Path, id: &str) -> PathBuf {
    folder.join("points").join(format!("{id}.log"))
}

fn result_path(folder: &Path, id: &str) -> PathBuf {
    folder.join("points").join(format!("{id}.json"))
}

fn list_path(folder: &Path) -> PathBuf {
    folder.join("study.json")
}
