//! Is a full disk told as one, and nothing lost by it?

use std::path::{Path, PathBuf};
use std::process::Command;

use super::job::Job;

/// Blocks of 512 bytes: below the tokens, the metrics, the model and the checkpoint of the job.
const BELOW_TOKENS: u64 = 128;
const BELOW_METRICS: u64 = 6;
const BELOW_MODEL: u64 = 8192;

#[test]
fn a_file_that_may_not_grow_is_named_and_the_run_goes_on_to_the_same_bytes() {
    let job = Job::on("sotu-test.parquet");
    job.run("run", &["--quiet"]).good();
    let expected = job.made("run");
    let remove = |names: &[&str]| {
        for path in names.iter().map(|name| job.path(name)) {
            let is_folder = path.is_dir();
            let remove = if is_folder { std::fs::remove_dir_all } else { std::fs::remove_file };
            remove(path).unwrap();
        }
    };
    let seldom = ["--set", "train.checkpoint_every_steps=0"];
    let strikes: [(u64, &[&str], &[&str], &str); 4] = [
        (BELOW_MODEL, &["run/student", "run/eval.json"], &[], "model.safetensors"),
        (BELOW_METRICS, &["run"], &seldom, "run/metrics.jsonl"),
        (BELOW_MODEL, &["run"], &[], "state.safetensors"),
        (BELOW_TOKENS, &["run", "run.cache"], &[], ".tokens"),
    ];
    for (blocks, lost, more, file) in strikes {
        remove(lost);
        let more = [more, &["--resume", "--quiet"]].concat();
        let ran = job.run_limited(blocks, "run", &more);
        ran.refused(&["File too large", &format!("{file}\n"), "ulimit -f", "--resume"]);
        assert!(!job.path("run/eval.json").exists(), "{file}");
        job.assert_nothing_half_written("run");
        job.run("run", &more).good();
        assert_eq!(job.made("run"), expected, "{file}");
    }
}

/// A disk of a few megabytes, where this test may have one.
struct Disk(PathBuf);

impl Disk {
    fn new(path: &Path) -> Option<Self> {
        std::fs::create_dir(path).unwrap();
        let disk = Self(path.to_owned());
        disk.mount("size=8m").then_some(disk)
    }

    fn mount(&self, how: &str) -> bool {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", how, "none"]).arg(&self.0).output();
        mounted.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_run_on_a_full_disk_goes_on_once_there_is_room() {
    let job = Job::on("sotu-test.parquet");
    let Some(disk) = Disk::new(&job.path("disk")) else {
        println!("skipped: only root may mount a small disk");
        return;
    };
    job.run("whole", &["--quiet"]).good();
    let ran = job.run("disk/run", &["--quiet"]);
    ran.refused(&["state.safetensors", "the disk is full: free some space", "--resume"]);
    job.assert_nothing_half_written("disk/run");
    assert!(disk.mount("remount,size=200m"));
    job.run("disk/run", &["--resume", "--quiet"]).good();
    assert_eq!(job.made("disk/run"), job.made("whole"));
}
