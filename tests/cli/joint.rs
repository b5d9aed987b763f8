//! Does a gate that learned together with its student serve every command that stops tokens?

use super::world::World;

const TEXT: [&str; 6] = ["--text", "held-out.txt", "--window", "24", "--max-tokens", "96"];
const HALTING: &str = "loss.halting={ policy = \"ponder\", weight = 0.5, prior = 0.3 }";

fn distill(world: &World, out: &str, more: &[&str]) {
    let base = ["--quiet", "--set", "student.repetitions=3", "--set", HALTING];
    world.distill(out, &[&base[..], more].concat()).good();
}

#[test]
fn a_student_is_distilled_with_its_gate_calibrated_evaluated_and_asked() {
    let world = World::shared();
    distill(world, "ponders", &[]);
    let metrics = std::fs::read_to_string(world.path("ponders/metrics.jsonl")).unwrap();
    for term in ["halting", "halting_cost", "halting_repetitions"] {
        assert!(metrics.contains(&format!("\"{term}\"")), "{metrics}");
    }
    let told = world.run(&["inspect", "ponders", "--json"]).json();
    assert_eq!((&told["gate"], &told["between"]), (&"ponder".into(), &"none".into()));

    let models = ["--teacher", "runs/teacher", "--student", "ponders"];
    let calibrate = |more: &[&str]| {
        world.run(&[&["calibrate"], &models[..], &TEXT[..], more].concat()).good().stdout
    };
    let said = calibrate(&[]);
    assert!(said.contains("the gate of ponder was trained with the student"), "{said}");
    let kept = || {
        let text = std::fs::read(world.path("ponders/student/halting.json")).unwrap();
        let found: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let policies = found["policies"].as_array().unwrap();
        let ponder = policies.iter().find(|one| one["curve"]["policy"] == "ponder");
        ponder.unwrap().clone()
    };
    let own = kept();
    assert_eq!(own["learned"], "together");
    assert_eq!(own["gate"]["bias"].as_array().unwrap().len(), 2);
    let weights = candle_core::safetensors::load(
        world.path("ponders/student/model.safetensors"),
        &candle_core::Device::Cpu,
    )
    .unwrap();
    let weight: Vec<f32> = weights["halt.weight"].to_vec1().unwrap();
    let read: Vec<f32> = serde_json::from_value(own["gate"]["weight"].clone()).unwrap();
    assert_eq!(weight, read);
    assert!(weight.iter().any(|w| *w != 0.0), "it learned nothing");

    let evaluate = ["evaluate", "--policies", "ponder,fixed", "--json"];
    let found = world.run(&[&evaluate[..], &models[..], &TEXT[..]].concat()).json();
    let score = &found["policies"][0];
    assert_eq!(score["name"], "ponder");
    assert!((1.0..=3.0).contains(&score["mean_repetitions"].as_f64().unwrap()), "{score}");
    let generate = ["generate", "--model", "ponders", "--prompt", "we must", "--max-tokens", "5"];
    let stops = ["--temperature", "0", "--policy", "ponder", "--json"];
    let found = world.run(&[&generate[..], &stops[..]].concat()).json();
    assert_eq!(found[0]["repetitions"].as_array().unwrap().len(), 5);

    assert!(!calibrate(&["--refit"]).contains("together"));
    assert!(kept().get("learned").is_none());
    assert_ne!(kept()["gate"], own["gate"]);
    world.run(&["export", "ponders", "--unrolled", "--out", "ponders-plain"]).good();
}

#[test]
fn a_run_with_a_gate_that_lost_its_end_goes_on_to_the_same_bits() {
    let world = World::shared();
    distill(world, "gated", &[]);
    distill(world, "cut", &[]);
    let student =
        |run: &str| std::fs::read(world.path(run).join("student/model.safetensors")).unwrap();
    let expected = student("gated");
    let run = world.path("cut");
    std::fs::remove_dir_all(run.join("student")).unwrap();
    std::fs::remove_file(run.join("eval.json")).unwrap();
    for step in ["00000004", "00000006"] {
        std::fs::remove_dir_all(run.join(format!("checkpoints/step-{step}"))).unwrap();
    }
    distill(world, "cut", &["--resume"]);
    assert_eq!(student("cut"), expected);
    let other = "loss.halting={ policy = \"exit-gate\" }";
    let more = ["--quiet", "--set", "student.repetitions=3", "--set", other, "--resume"];
    world.distill("cut", &more).refused(&["loss.halting"]);
    let one = ["--quiet", "--set", "student.repetitions=1", "--set", other];
    world.distill("single", &one).refused(&["nothing to choose"]);
    let beta = "loss.halting={ policy = \"ponder\", beta = 1 }";
    world.distill("single", &["--set", beta]).refused(&["beta"]);
}
