//! Does the whole job survive `kill -9` at any moment?

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::job::Job;

/// Kills the job in `out` after `delay`, unless it ended before.
fn kill(job: &Job, out: &str, more: &[&str], delay: Duration) {
    let mut command = job.command(out, more);
    let mut victim = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    victim.kill().unwrap();
    victim.wait().unwrap();
}

/// `moments` are fractions of the time that the uninterrupted job takes.
fn goes_on_after_kills_at(moments: impl Iterator<Item = f64>) {
    let job = Job::on("sotu-test.parquet");
    let started = Instant::now();
    job.run("whole", &["--quiet"]).good();
    let lasted = started.elapsed();
    let expected = job.made("whole");
    for moment in moments {
        kill(&job, "killed", &["--quiet"], lasted.mul_f64(moment));
        println!("killed at {moment:.3} of {lasted:?}: {}", job.stands("killed"));
        job.run("killed", &["--resume", "--quiet"]).good();
        assert_eq!(job.made("killed"), expected, "killed at {moment} of {lasted:?}");
        job.forget("killed");
    }
}

#[test]
fn a_job_killed_in_each_of_its_parts_ends_with_the_same_bytes() {
    goes_on_after_kills_at([0.25, 0.6, 0.95].into_iter());
}

#[test]
#[ignore = "takes minutes: 36 kills"]
fn a_job_killed_at_many_moments_ends_with_the_same_bytes() {
    let all = (1..=24).map(|moment| f64::from(moment) / 25.0);
    // The export takes little of the time.
    let end = (0..12).map(|moment| 0.9 + 0.1 * f64::from(moment) / 12.0);
    goes_on_after_kills_at(all.chain(end));
}

#[test]
#[ignore = "takes minutes: kills one run again and again"]
fn a_job_killed_again_and_again_ends_with_the_same_bytes() {
    let job = Job::on("sotu-test.parquet");
    let started = Instant::now();
    job.run("whole", &["--quiet"]).good();
    let lasted = started.elapsed();
    let expected = job.made("whole");
    // Longer every time: the last kill comes after its end.
    for kills in 1..=20 {
        kill(&job, "killed", &["--resume", "--quiet"], lasted.mul_f64(0.06 * f64::from(kills)));
    }
    job.run("killed", &["--resume", "--quiet"]).good();
    assert_eq!(job.made("killed"), expected);
}

#[test]
fn what_a_run_killed_at_its_first_file_left_is_no_foreign_folder() {
    let job = Job::on("sotu-test.parquet");
    let run = job.path("run");
    std::fs::create_dir_all(run.join(".tokenizer.x.part")).unwrap();
    std::fs::write(run.join(".recipe.toml.abc.part"), "half").unwrap();
    std::fs::write(run.join("lock"), "").unwrap();
    // Refused for its text only, after the folder was taken.
    let shape = ["--resume", "--quiet", "--set", "student.core_layers=99"];
    job.run("run", &shape).refused(&["the teacher has 12"]);
    job.assert_nothing_half_written("run");
    // What only looks like it stays.
    std::fs::create_dir(job.path("other")).unwrap();
    std::fs::write(job.path("other/.thesis.part"), "mine").unwrap();
    job.run("other", &["--resume"]).refused(&["other files, such as `.thesis.part`"]);
}
