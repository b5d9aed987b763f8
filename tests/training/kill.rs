//! Does a run survive `kill -9` at any moment?

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use factorexe::context::Context;
use factorexe::train::{
    Objective, Resume, TrainConfig, Trainer, Weights, read_steps, restore_parameters,
};

use super::{Counting, Net, config};

const FOLDER: &str = "FACTOREXE_TEST_KILL_FOLDER";

/// A checkpoint after every step, so that most kills hit the writing of one.
fn config_of_the_killed() -> TrainConfig {
    TrainConfig { steps: 40, checkpoint_every_steps: 1, ..config() }
}

fn train(folder: &Path) -> Net {
    let (net, config) = (Net::new(), config_of_the_killed());
    let mut trainer = Trainer::new(&config, 3, folder, &Context::cpu());
    let fit = trainer.fit(&net, &Counting, Resume::IfPresent, None);
    fit.unwrap_or_else(|error| panic!("{error}"));
    net
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn victim() {
    train(Path::new(&std::env::var_os(FOLDER).unwrap()));
}

#[test]
fn a_run_killed_at_many_moments_ends_with_the_same_bits() {
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut kills = 0;
    loop {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "training::kill::victim", "--ignored"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Longer every time: the last is done before its kill.
        std::thread::sleep(Duration::from_millis(5 + 3 * kills));
        let done = victim.try_wait().unwrap();
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        if done.is_some() {
            assert!(status.success());
            break;
        }
        kills += 1;
    }
    assert!(kills > 3, "{kills} kills are too few to say much");
    let expected = train(whole.path()).bits();
    let net = Net::new();
    restore_parameters(folder.path(), net.params(), Weights::Last, &Context::cpu()).unwrap();
    assert_eq!(net.bits(), expected);
    let steps = read_steps(&folder.path().join("metrics.jsonl")).unwrap();
    assert!(steps.iter().map(|metrics| metrics.step).eq(1..=40));
}
