//! Is a resumed run equal to the bit to one that was never stopped?

use std::collections::BTreeMap;
use std::path::Path;

use factorexe::context::{Cancellation, Context};
use factorexe::disk::RunLock;
use factorexe::error::Kind;
use factorexe::train::{
    Checkpoints, Resume, Summary, TrainConfig, Trainer, Weights, read_steps, restore_parameters,
};
use factorexe::{Error, Result};

use super::{Counting, Listener, Net, Trouble, config};

type Bits = BTreeMap<String, Vec<u32>>;

/// Trains and gives the bits of the last weights and of their average.
fn fit(
    net: &Net,
    config: &TrainConfig,
    folder: &Path,
    resume: Resume,
    context: &Context,
) -> Result<(Bits, Bits, Summary)> {
    let mut trainer = Trainer::new(config, 3, folder, context);
    let summary = trainer.fit(net, &Counting, resume, None)?;
    let last = net.bits();
    assert!(trainer.use_ema(factorexe::train::Objective::params(net))?);
    Ok((last, net.bits(), summary))
}

fn fresh(net: &Net, folder: &Path) -> Result<(Bits, Bits, Summary)> {
    fit(net, &config(), folder, Resume::Fresh, &Context::cpu())
}

fn go_on(folder: &Path, listener: &Listener) -> Result<(Bits, Bits, Summary)> {
    fit(&Net::new(), &config(), folder, Resume::IfPresent, &listener.context())
}

fn uninterrupted() -> (Bits, Bits) {
    let folder = tempfile::tempdir().unwrap();
    let (last, average, summary) = fresh(&Net::new(), folder.path()).unwrap();
    assert_eq!((summary.steps, summary.tokens, summary.skipped), (20, 320, 0));
    assert!(summary.loss < 1.9, "ln 7 = 1.95 is where it starts, {} where it ends", summary.loss);
    assert_ne!(last, average);
    (last, average)
}

/// Dies in micro-batch `call`, as a kill would: nothing is saved.
fn killed(folder: &Path, call: u64) -> Error {
    let net =
        Net::new().troubled(move |now| if now == call { Trouble::Fail } else { Trouble::None });
    fresh(&net, folder).unwrap_err()
}

fn assert_every_step_once(folder: &Path) {
    let steps = read_steps(&folder.join("metrics.jsonl")).unwrap();
    assert!(steps.iter().map(|metrics| metrics.step).eq(1..=20));
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let expected = uninterrupted();
    // In the first step, before the first checkpoint, and in the middle of later steps.
    for call in [0, 1, 8, 27, 39] {
        let folder = tempfile::tempdir().unwrap();
        killed(folder.path(), call);
        let (last, average, summary) = go_on(folder.path(), &Listener::default()).unwrap();
        assert_eq!((last, average), expected);
        assert_eq!((summary.steps, summary.tokens), (20, 320));
        assert_every_step_once(folder.path());
    }
}

#[test]
fn ctrl_c_saves_and_the_run_goes_on_to_the_same_bits() {
    let expected = uninterrupted();
    // Set while the first and while the second micro-batch of a step is computed.
    for call in [20, 21] {
        let folder = tempfile::tempdir().unwrap();
        let cancellation = Cancellation::new();
        let request = cancellation.clone();
        let net = Net::new().troubled(move |now| {
            let request = request.clone();
            if now == call {
                Trouble::Then(Box::new(move || request.cancel()))
            } else {
                Trouble::None
            }
        });
        let listener = Listener::default();
        let context = listener.context().with_cancellation(cancellation);
        let error = fit(&net, &config(), folder.path(), Resume::Fresh, &context).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
        assert!(error.to_string().contains("--resume"), "{error}");
        let (last, average, _) = go_on(folder.path(), &listener).unwrap();
        assert_eq!((last, average), expected);
        assert_every_step_once(folder.path());
    }
}

#[test]
fn damaged_and_half_written_checkpoints_are_passed_over() {
    let expected = uninterrupted();
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), 25);
    // Killed while writing: a temporary folder, half a tensor file, half a line of metrics.
    let checkpoints = folder.path().join("checkpoints");
    std::fs::create_dir(checkpoints.join(".writing-step-00000011")).unwrap();
    std::fs::write(checkpoints.join(".writing-step-00000011/state.safetensors"), b"half").unwrap();
    let newest = checkpoints.join("step-00000010/state.safetensors");
    let length = std::fs::metadata(&newest).unwrap().len();
    std::fs::File::options().write(true).open(&newest).unwrap().set_len(length / 2).unwrap();
    let metrics = folder.path().join("metrics.jsonl");
    let mut text = std::fs::read(&metrics).unwrap();
    text.extend(b"{\"step\":13,\"lo");
    std::fs::write(&metrics, text).unwrap();

    let listener = Listener::default();
    let (last, average, _) = go_on(folder.path(), &listener).unwrap();
    assert!(listener.received("step-00000010"));
    assert_eq!((last, average), expected);
    assert_every_step_once(folder.path());
    // Two are kept, and nothing else.
    assert_eq!(Checkpoints::new(folder.path(), 2).steps().unwrap(), [15, 20]);
    assert_eq!(std::fs::read_dir(&checkpoints).unwrap().count(), 2);
}

#[test]
fn a_run_without_a_whole_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), 25);
    for step in ["step-00000005", "step-00000010"] {
        let manifest = folder.path().join("checkpoints").join(step).join("state.json");
        std::fs::write(manifest, "{").unwrap();
    }
    let error = go_on(folder.path(), &Listener::default()).unwrap_err();
    assert!(error.to_string().contains("none of the 2 checkpoints"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_finished_run_is_not_overwritten_and_gives_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (last, average, _) = fresh(&Net::new(), folder.path()).unwrap();
    let error = fresh(&Net::new(), folder.path()).unwrap_err();
    assert!(error.to_string().contains("holds a run, at step 20"), "{error}");
    // Resumed, it has nothing left to do.
    let again = go_on(folder.path(), &Listener::default()).unwrap();
    assert_eq!((&again.0, &again.1), (&last, &average));
    for (weights, expected) in [(Weights::Last, last), (Weights::Ema, average)] {
        let net = Net::new();
        let params = factorexe::train::Objective::params(&net);
        let step = restore_parameters(folder.path(), params, weights, &Context::cpu()).unwrap();
        assert_eq!((step, net.bits()), (20, expected));
    }
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lock = RunLock::acquire(folder.path()).unwrap();
    let error = fresh(&Net::new(), folder.path()).unwrap_err();
    assert!(error.to_string().contains("in use by process"), "{error}");
    // The holder itself may train under it.
    let config = config();
    let mut trainer = Trainer::new(&config, 3, folder.path(), &Context::cpu()).with_lock(lock);
    trainer.fit(&Net::new(), &Counting, Resume::Fresh, None).unwrap();
    drop(trainer);
    RunLock::acquire(folder.path()).unwrap();
}

#[test]
fn other_frozen_weights_are_refused_and_another_configuration_is_told() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), 25);
    let listener = Listener::default();
    let resume = |net: &Net, config: &TrainConfig| {
        fit(net, config, folder.path(), Resume::IfPresent, &listener.context())
    };
    let error = resume(&Net::with_scale(0.7), &config()).unwrap_err();
    assert!(error.to_string().contains("`scale` is not what"), "{error}");
    resume(&Net::new(), &TrainConfig { steps: 12, ..config() }).unwrap();
    assert!(listener.received("train.steps"));
}
