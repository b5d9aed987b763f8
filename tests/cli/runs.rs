//! The whole job, and how it goes on where it was stopped.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};

use super::world::World;
use crate::support::difference;

#[test]
fn a_teacher_is_distilled_evaluated_exported_and_read_again() {
    let world = World::shared();
    let ran = world.distill("whole", &[]).good();
    for part in ["teacher", "untrained", "2 = N", "4 > N", "we must\n  teacher: "] {
        assert!(ran.stdout.contains(part), "`{part}` is not in:\n{}", ran.stdout);
    }
    assert!(ran.stdout.ends_with("whole\n"), "{}", ran.stdout);
    for made in ["recipe.toml", "metrics.jsonl", "eval.json", "student/README.md", "checkpoints"] {
        assert!(world.path("whole").join(made).exists(), "{made}");
    }
    let eval = std::fs::read_to_string(world.path("whole/eval.json")).unwrap();
    let eval: serde_json::Value = serde_json::from_str(&eval).unwrap();
    assert_eq!(eval["training"]["steps"], 6);
    assert_eq!(eval["student"].as_array().unwrap().len(), 4);
    assert!(eval["untrained"]["kl_nats"].as_f64().unwrap() > 0.0);

    let teacher = world.run(&["inspect", "runs/teacher", "--json"]).json();
    assert_eq!((&teacher["family"], &teacher["layers"]), (&"llama".into(), &6.into()));
    let student = world.run(&["inspect", "whole/student", "--json"]).json();
    for (key, value) in [("prelude", 1), ("core", 1), ("coda", 1), ("repetitions", 2)] {
        assert_eq!(student[key], value, "{key}");
    }
    let blocks = |model: &serde_json::Value| model["parameters"]["blocks"].as_f64().unwrap();
    let ratio = student["size_ratio"].as_f64().unwrap();
    assert!((ratio - blocks(&student) / blocks(&teacher)).abs() < 1e-9);

    let found = world.run(&[
        "evaluate",
        "--teacher",
        "runs/teacher",
        "--student",
        "whole",
        "--text",
        "held-out.txt",
        "--window",
        "16",
        "--max-tokens",
        "64",
        "--repetitions",
        "1,2",
        "--json",
    ]);
    let found = found.json();
    let perplexity = found["teacher"]["perplexity"].as_f64().unwrap();
    assert!((perplexity.ln() - found["teacher"]["nll_nats"].as_f64().unwrap()).abs() < 1e-9);
    // Four windows of 16 tokens predict 15 each.
    assert_eq!(found["teacher"]["tokens"], 60);
    for (row, repetitions) in found["student"].as_array().unwrap().iter().zip([1, 2]) {
        assert_eq!(row["repetitions"], repetitions);
        assert!(row["perplexity"].is_f64() && row["kl_nats"].is_f64(), "{row}");
        assert!((0.0..=1.0).contains(&row["agreement"].as_f64().unwrap()));
    }
    let arguments =
        ["generate", "--model", "whole", "--prompt", "we must", "--max-tokens", "4", "--quiet"];
    let written = world.run(&arguments).good();
    assert_eq!((written.stdout.lines().count(), written.stderr.as_str()), (1, ""));
}

#[test]
fn an_unrolled_student_has_the_students_states() {
    let world = World::shared();
    world.distill("unroll", &["--quiet"]).good();
    world.run(&["export", "unroll", "--unrolled", "--out", "plain"]).good();
    assert_eq!(world.run(&["inspect", "plain", "--json"]).json()["layers"], 4);
    world.run(&["export", "unroll", "--out", "plain"]).refused(&["already holds", "--force"]);
    let states = |model: &str| -> HashMap<String, Tensor> {
        let out = world.path(&format!("{model}.safetensors"));
        let ids = ["--ids", "1,2,3,4", "--out", out.to_str().unwrap()];
        world.run(&[&["states", "--model", model][..], &ids[..]].concat()).good();
        candle_core::safetensors::load(&out, &Device::Cpu).unwrap()
    };
    let (looped, plain) = (states("unroll"), states("plain"));
    assert_eq!(looped.len(), 6);
    assert_eq!(looped["hidden.0"].dims(), [1, 4, 32]);
    for (name, tensor) in &looped {
        // Merging a correction into its matrix sums in another order.
        assert!(difference(tensor, &plain[name]) < 1e-4, "{name}");
    }
}

#[test]
fn a_run_that_lost_its_end_goes_on_to_the_same_student() {
    let world = World::shared();
    world.distill("straight", &["--quiet"]).good();
    world.distill("broken", &["--quiet"]).good();
    let student =
        |run: &str| std::fs::read(world.path(run).join("student/model.safetensors")).unwrap();
    let expected = student("straight");
    assert_eq!(student("broken"), expected);

    // As it was when it was killed after step 3.
    let run = world.path("broken");
    std::fs::remove_dir_all(run.join("student")).unwrap();
    std::fs::remove_file(run.join("eval.json")).unwrap();
    for step in ["00000004", "00000006"] {
        std::fs::remove_dir_all(run.join(format!("checkpoints/step-{step}"))).unwrap();
    }
    world.distill("broken", &[]).refused(&[
        "unfinished run, at step 2 of 6",
        "--resume",
        "--force",
    ]);
    let other = ["--resume", "--set", "loss.temperature=2"];
    world.distill("broken", &other).refused(&["`loss.temperature` was 1.0, and is 2.0 now"]);
    world.distill("broken", &["--resume", "--quiet"]).good();
    assert_eq!(student("broken"), expected);
    let lines = |run: &str| {
        std::fs::read_to_string(world.path(run).join("metrics.jsonl")).unwrap().lines().count()
    };
    assert_eq!(lines("broken"), lines("straight"));

    world.distill("straight", &[]).refused(&["finished run", "--resume", "--force", "--out"]);
    world.distill("straight", &["--force", "--quiet", "--seed", "8"]).good();
    assert_ne!(student("straight"), expected);
}

#[test]
fn a_teacher_is_computed_once_for_every_run_and_live_when_asked() {
    let world = World::shared();
    let kept = ["--set", "teacher.cache={ states = \"f16\", top_k = 300 }", "--cache", "kept"];
    let student =
        |run: &str| std::fs::read(world.path(run).join("student/model.safetensors")).unwrap();
    let cold = world.distill("cold", &kept).good().stderr;
    assert!(cold.contains("rows from the cache") && !cold.contains(" 0 computed"), "{cold}");
    let warm = world.distill("warm", &kept).good().stderr;
    assert!(warm.contains(" 0 computed"), "{warm}");
    assert_eq!(student("warm"), student("cold"));
    world.distill("live", &["--quiet"]).good();
    let live = world.distill("warm", &[&kept[..], &["--live", "--force"]].concat()).good().stderr;
    assert!(!live.contains("rows from the cache"), "{live}");
    assert_eq!(student("warm"), student("live"));
    let resumed = [&kept[..], &["--resume"]].concat();
    world.distill("warm", &resumed).refused(&["`teacher.live` was true, and is false now"]);
    world.distill("never", &["--cache-limit", "much"]).misused(&["`much` is no size", "8GB"]);
    let nothing = ["--set", "teacher.cache.top_k=0"];
    world.distill("never", &nothing).refused(&["top_k is 0", "teacher.cache.top_k"]);
}

#[test]
fn the_resolved_recipe_says_everything_and_is_read_as_the_same() {
    let world = World::shared();
    let auto = ["--set", "student.prelude_layers=auto", "--set", "student.coda_layers=auto"];
    world.distill("auto", &[&auto[..], &["--quiet"]].concat()).good();
    let resolved = std::fs::read_to_string(world.path("auto/recipe.toml")).unwrap();
    assert!(!resolved.contains("auto\""), "{resolved}");
    assert!(
        resolved.contains("[train.schedule]") && resolved.contains("temperature"),
        "{resolved}"
    );
    world.run(&["auto/recipe.toml", "--out", "again", "--quiet"]).good();
    let again = std::fs::read_to_string(world.path("again/recipe.toml")).unwrap();
    assert_eq!(again, resolved);
    // The number that `auto` found is not searched again.
    world.distill("auto", &[&auto[..], &["--resume", "--quiet"]].concat()).good();
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on_and_a_folder_has_one_owner() {
    let world = World::shared();
    let arguments = [
        "--teacher",
        "runs/teacher",
        "student.toml",
        "--out",
        "endless",
        "--set",
        "train.steps=1000000",
        "--set",
        "train.checkpoint_every_steps=0",
    ];
    let mut command = world.command(&arguments);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = world.path("endless/metrics.jsonl");
    let started = Instant::now();
    while std::fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
        assert!(started.elapsed() < Duration::from_secs(120), "training never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    world.distill("endless", &["--force"]).refused(&["in use by process", "--out"]);
    let id = running.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ran: super::world::Ran = running.wait_with_output().unwrap().into();
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    for part in ["stopped: after step", "student.toml --out endless", "--resume\n"] {
        assert!(ran.stderr.contains(part), "`{part}` is not in:\n{}", ran.stderr);
    }
    let saved = std::fs::read_dir(world.path("endless/checkpoints")).unwrap().count();
    assert_eq!(saved, 1);
}
