//! Is the first Ctrl-C noticed wherever it comes?

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::job::{Job, files};

/// A second or two where nothing else runs.
const SOON: Duration = Duration::from_secs(10);

/// Starts the job, presses Ctrl-C `later` than `begun` says so of a line of stderr or of the
/// folder, and returns what it said then.
fn press(job: &Job, more: &[&str], begun: &str, later: Duration) -> String {
    let mut command = job.command("run", &[&["--verbose"], more].concat());
    let running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut running = running.unwrap();
    let mut stderr = BufReader::new(running.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(begun) {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "`{begun}` was never said");
    }
    std::thread::sleep(later);
    let pressed = Instant::now();
    let id = running.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(130), "{said}");
    assert!(pressed.elapsed() < SOON, "{:?}\n{said}", pressed.elapsed());
    said
}

#[track_caller]
fn says_how_to_go_on(said: &str, during: &str) {
    for part in ["hint: resume with the same command and --resume", "--resume\n", during] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
}

#[test]
fn ctrl_c_is_noticed_while_text_is_tokenised() {
    let job = Job::on("sotu-train.parquet");
    let said = press(&job, &[], "read: ", Duration::from_millis(300));
    says_how_to_go_on(&said, "stopped: while the text was tokenised");
    let left = files(&job.path("run.cache"));
    assert!(left.iter().all(|name| name.ends_with(".lock")), "{left:?}");
}

#[test]
fn ctrl_c_is_noticed_while_the_student_is_initialised() {
    let job = Job::on("sotu-test.parquet");
    // Minutes of work.
    let long = ["--set", "student.calibration_tokens=100000", "--set", "data.window_tokens=256"];
    let said = press(&job, &long, "student: ", Duration::from_millis(300));
    says_how_to_go_on(&said, "stopped: during calibration of the student");
    let auto = ["--set", "student.prelude_layers=auto", "--force"];
    let said = press(&job, &[&long[..], &auto[..]].concat(), "corpus: ", Duration::from_secs(1));
    says_how_to_go_on(&said, "stopped: during the measurement of angular distances");
}
