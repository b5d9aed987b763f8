//! Execution of one point of a study.

use super::halting::point;
use super::law::{student, teacher, text};
use super::scaling::{language, samples};
use super::sweep::work::{Work, folder, tidy};
use super::sweep::{Job, Outcome};
use crate::error::Result;
use crate::run::Options;

/// Carries out `job` in `options.out`, the folder of the study with the results of other points.
///
/// # Errors
/// It does not fit, a point it needs is not done, the disk is full, or the user stopped it.
pub fn carry_out(job: &Job, options: &Options) -> Result<Outcome> {
    let work = Work { folder: folder(&options.out, job)?, study: &options.out, options };
    let outcome = match job {
        Job::Teacher(job) => Outcome::Measured(teacher::learn(job, &work)?),
        Job::Student(job) => Outcome::Measured(student::learn(job, &work)?),
        Job::Text(job) => Outcome::Measured(text::learn(job, &work)?),
        Job::Learner(job) => Outcome::Measured(samples::learn(job, &work)?),
        Job::Samples(job) => Outcome::Enough(samples::enough(job, &work)?),
        Job::Language(job) => Outcome::LanguageModelScore(language::learn(job, &work)?),
        Job::Exits(job) => Outcome::Exits(point::exits(job, &work)?),
    };
    tidy(&work.folder)?;
    Ok(outcome)
}
