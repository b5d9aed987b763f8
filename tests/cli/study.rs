//! Do tasks, laws, fits and reports keep the contract that scripts rely on?

use std::time::Duration;

use serde_json::Value;

use super::world::{Ran, World, factorize};

const LAW: &str = r#"
seeds = [0, 1]
[[tasks]]
name = "pointer"
nodes = 5
hops = 2
pointers = "edges"
[teachers]
layers = [2]
[teachers.model]
width = 16
heads = 2
max_positions = 32
[teachers.train]
steps = 6
batch_rows = 8
warmup_steps = 2
[students]
core_layers = [1, 2]
widths = [16, 8]
repetitions = [1, 2]
layers_weight = 0.5
[students.train]
steps = 4
batch_rows = 8
warmup_steps = 1
[controls]
untied = true
scratch = true
lora_ranks = [2]
[[targets]]
kind = "kl"
most = 9.0
[[targets]]
kind = "kl"
most = 0.0
[eval]
examples = 32
bootstrap_samples = 20
"#;

const SCALING: &str = r#"
seeds = [0, 1]
[eval]
examples = 32
[samples]
task = { name = "pointer", nodes = 5, hops = 2, pointers = "edges" }
lengths = [1, 2]
ways = ["chain", "partly", "mixed", "hard"]
examples = [8, 16]
accuracy = 0.05
[samples.block]
model = { layers = 1, width = 16, heads = 2, max_positions = 32 }
train = { steps = 3, batch_rows = 8, warmup_steps = 1 }
[horizon]
task = { name = "pointer", nodes = 5, hops = 2, pointers = "edges" }
widths = [16]
lengths = [1, 2, 9]
[horizon.block]
model = { layers = 1, width = 16, heads = 2, max_positions = 32 }
train = { steps = 3, batch_rows = 8, warmup_steps = 1 }
[joint]
tokenizer = "runs/teacher/model"
files = ["text.jsonl"]
test = ["held-out.txt"]
widths = [8, 16]
head_width = 8
cores = [[1, 1], [1, 3], [2, 1]]
outer_layers = 1
steps = [2, 4]
window_tokens = 16
train = { batch_rows = 2, warmup_steps = 1 }
test_tokens = 64
"#;

const EXITS: &str = r#"
seeds = [0, 1]
risk = { changed = 0.05 }
[eval]
examples = 64
[[learners]]
task = { name = "word", group = "s3", length = 3 }
shortest = 2
spare_steps = 1
[learners.block]
model = { layers = 1, width = 16, heads = 2, max_positions = 32 }
train = { steps = 4, batch_rows = 8, warmup_steps = 1 }
[[learners]]
task = { name = "revcirc", wires = 3, gates = 2 }
shortest = 1
told = "answers"
spare_steps = 1
[learners.block]
model = { layers = 1, width = 16, heads = 2, max_positions = 32 }
train = { steps = 4, batch_rows = 8, warmup_steps = 1 }
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("law.toml"), LAW).unwrap();
    folder
}

fn run(folder: &tempfile::TempDir, arguments: &[&str]) -> Ran {
    factorize(folder.path()).args(arguments).output().unwrap().into()
}

fn results(folder: &tempfile::TempDir) -> Vec<(String, std::time::SystemTime)> {
    let points = std::fs::read_dir(folder.path().join("x/points")).unwrap();
    let mut found: Vec<_> = points
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "json"))
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, entry.metadata().unwrap().modified().unwrap())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_law_is_measured_once_resumed_and_reported() {
    let folder = folder();
    let law = run(&folder, &["law", "law.toml", "--out", "x", "--json", "--quiet"]).json();
    let on_disk: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("x/law.json")).unwrap()).unwrap();
    assert_eq!(law, on_disk);
    // A target that everything reaches: one repetition was enough everywhere.
    assert_eq!(law["points"].as_array().unwrap().len(), 2 * 2 * 2 * 2);
    for point in law["points"].as_array().unwrap() {
        assert_eq!((&point["needed"]["low"], &point["needed"]["high"]), (&0.0.into(), &1.0.into()));
        assert!(point["depth_ratio"] == 2.0 || point["depth_ratio"] == 1.0);
        assert!(point["width_ratio"] == 2.0 || point["width_ratio"] == 1.0);
    }
    // And one that nothing reaches.
    let others = law["other_targets"].as_array().unwrap();
    assert_eq!((others.len(), &others[0]["target"]), (1, &"KL of 0".into()));
    let points = law["points"].as_array().unwrap().iter();
    for (point, other) in points.zip(others[0]["points"].as_array().unwrap()) {
        assert_eq!(other["student"], point["student"]);
        assert_eq!(other["needed"]["low"], 2.0);
        assert!(other["needed"]["high"].is_null());
    }
    assert_eq!(law["points_done"], law["points_total"]);
    assert_eq!(law["controls"].as_array().unwrap().len(), 2 * 3);
    // Where every number tried is enough, no law can be told apart, and it is said why.
    assert!(law["exponent"]["estimate"].is_null() && law["exponent"]["note"].is_string());
    assert!(law["form"].is_null());
    assert_eq!(law["forms"].as_array().unwrap().len(), 5);
    let before = results(&folder);
    run(&folder, &["law", "law.toml", "--out", "x"]).refused(&["--resume", "--force"]);
    let table = run(&folder, &["law", "law.toml", "--out", "x", "--resume"]).good().stdout;
    assert!(table.contains("pointer 5 2") && table.contains("random-n"), "{table}");
    assert!(table.contains("teachers answer"), "{table}");
    assert_eq!(results(&folder), before, "points that are done stay done");
    // A half-written result is measured again, and alone.
    let victim = folder.path().join("x/points").join(&before[3].0);
    let text = std::fs::read(&victim).unwrap();
    std::fs::write(&victim, &text[..text.len() / 2]).unwrap();
    run(&folder, &["law", "law.toml", "--out", "x", "--resume", "--quiet"]).good();
    let after = results(&folder);
    let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
    assert_eq!(changed.iter().filter(|&&one| one).count(), 1);
    let csv = std::fs::read_to_string(folder.path().join("x/points.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 * 16);
    let one: Vec<&str> = csv.lines().filter(|line| !line.contains("KL of 0")).collect();
    std::fs::write(folder.path().join("one.csv"), one.join("\n")).unwrap();
    let fitted = run(&folder, &["fit", "law", "one.csv", "--json"]).json();
    assert_eq!(fitted["rows"], 16);
    let page = run(&folder, &["report", "x"]).good().stdout;
    let page = std::fs::read_to_string(folder.path().join(page.trim())).unwrap();
    assert!(page.contains("pointer 5 2"));
    let figures = std::fs::read_dir(folder.path().join("x/figures")).unwrap().count();
    assert!(figures >= 4, "{figures}");
}

#[test]
fn a_point_that_fails_is_recorded_and_spoils_no_other() {
    let folder = folder();
    // No head of width 8 fits into a student of width 4.
    let law = LAW.replace("widths = [16, 8]", "widths = [16, 4]");
    std::fs::write(folder.path().join("law.toml"), law).unwrap();
    let ran = run(&folder, &["law", "law.toml", "--out", "x", "--json"]);
    assert!(ran.stderr.contains("failed twice"), "{}", ran.stderr);
    let law = ran.json();
    let failures = law["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2 * 2 * 3);
    assert!(failures[0]["error"].as_str().unwrap().contains("whole number"), "{failures:?}");
    assert_eq!(law["points"].as_array().unwrap().len(), 2 * 2 * 2);
}

#[test]
fn a_study_that_is_stopped_goes_on_where_it_was() {
    let folder = folder();
    let mut child = factorize(folder.path())
        .args(["law", "law.toml", "--out", "x", "--quiet", "--set", "teachers.train.steps=40"])
        .spawn()
        .unwrap();
    // As soon as one point is done, without any goodbye.
    while !folder.path().join("x/points").exists() || results(&folder).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before anything was done");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = results(&folder);
    // Though nothing said goodbye, a page tells how far it came.
    let page = run(&folder, &["report", "x"]).good().stdout;
    let page = std::fs::read_to_string(folder.path().join(page.trim())).unwrap();
    assert!(page.contains("This sweep is not finished"), "{page}");
    let arguments = ["law", "law.toml", "--out", "x", "--resume", "--json", "--quiet"];
    let more = ["--set", "teachers.train.steps=40"];
    let law = run(&folder, &[&arguments[..], &more].concat()).json();
    assert_eq!(law["points_done"], law["points_total"]);
    assert_eq!(law["failures"], serde_json::json!([]));
    let after = results(&folder);
    assert!(before.iter().all(|point| after.contains(point)), "what was done stays done");
}

#[test]
fn a_study_takes_no_folder_that_holds_something_else() {
    let world = World::shared();
    world.write("law.toml", LAW);
    let before = std::fs::read(world.path("runs/teacher/recipe.toml")).unwrap();
    for how in ["--resume", "--force"] {
        let ran = world.run(&["law", "law.toml", "--out", "runs/teacher", how]);
        ran.refused(&["holds a run, not a study", "--out"]);
    }
    assert_eq!(std::fs::read(world.path("runs/teacher/recipe.toml")).unwrap(), before);
}

#[test]
fn scaling_laws_are_fitted_and_written_down() {
    let world = World::shared();
    world.write("scaling.toml", SCALING);
    let found = world.run(&["scaling", "scaling.toml", "--out", "s", "--json", "--quiet"]).json();
    let laws = found["laws"].as_array().unwrap();
    let names: Vec<&str> = laws.iter().map(|law| law["name"].as_str().unwrap()).collect();
    for name in ["chain", "partly", "mixed", "hard"] {
        assert!(names.contains(&format!("examples needed, {name}").as_str()), "{names:?}");
    }
    assert!(names.contains(&"horizon, width 16") && names.contains(&"loss on text"), "{names:?}");
    assert!(names.contains(&"loss at test time"), "{names:?}");
    assert_eq!(found["failures"], serde_json::json!([]));
    for law in laws {
        for key in ["estimate", "low", "high", "form", "alternatives", "points"] {
            assert!(law.get(key).is_some(), "{key} of {law}");
        }
        assert!(!law["points"].as_array().unwrap().is_empty(), "{law}");
    }
    world.run(&["report", "s"]).good();
    world.write("law.toml", LAW);
    world.run(&["law", "law.toml", "--out", "s", "--resume"]).refused(&["study of other laws"]);
    world
        .run(&["scaling", "scaling.toml", "--set", "samples.examples=[9, 8]"])
        .refused(&["samples.examples must rise"]);
    world
        .run(&["law", "law.toml", "--set", "targets=[{ kind = \"agreement\", least = 2.0 }]"])
        .refused(&["can never be reached", "targets"]);
}

#[test]
fn exits_are_measured_against_known_lengths() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("exits.toml"), EXITS).unwrap();
    let found = run(&folder, &["exits", "exits.toml", "--out", "x", "--json", "--quiet"]).json();
    assert_eq!((&found["points_done"], &found["failures"]), (&4.into(), &serde_json::json!([])));
    let learners = found["learners"].as_array().unwrap();
    assert_eq!(learners.len(), 2);
    for (learner, (lengths, places)) in learners.iter().zip([([2, 3], 64), ([1, 2], 192)]) {
        assert_eq!(learner["seeds"], serde_json::json!([0, 1]));
        let mean = &learner["mean"];
        for (at, length) in mean["lengths"].as_array().unwrap().iter().zip(lengths) {
            assert_eq!((&at["length"], &at["places"]), (&length.into(), &places.into()));
            assert_eq!(at["right"].as_array().unwrap().len() as u64, mean["repetitions"]);
        }
        // All repetitions, the length, the oracle, and ten policies.
        let rules = mean["rules"].as_array().unwrap();
        assert_eq!((rules.len(), &rules[2]["name"]), (13, &"oracle".into()));
        let number = |rule: &Value, key: &str| rule[key].as_f64().unwrap();
        for rule in rules {
            let stops = rule["stops"].as_array().unwrap();
            let sum: f64 = stops.iter().map(|stop| stop.as_f64().unwrap()).sum();
            // As many places of every length.
            assert!((sum / stops.len() as f64 - number(rule, "mean_repetitions")).abs() < 1e-9);
            assert!(number(rule, "mean_repetitions") <= number(&rules[0], "mean_repetitions"));
        }
        assert_eq!((number(&rules[0], "changed"), number(&rules[2], "changed")), (0.0, 0.0));
        assert!((number(&rules[1], "rank_correlation") - 1.0).abs() < 1e-9);
    }
    let before = results(&folder);
    let table = run(&folder, &["exits", "exits.toml", "--out", "x", "--resume"]).good().stdout;
    for part in ["word s3 3, told", "revcirc 3 2, told", "second-difference"] {
        assert!(table.contains(part), "{table}");
    }
    assert_eq!(results(&folder), before, "points that are done stay done");
    let csv = std::fs::read_to_string(folder.path().join("x/points.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 4 * 13 * 2);
    let page = run(&folder, &["report", "x"]).good().stdout;
    let page = std::fs::read_to_string(folder.path().join(page.trim())).unwrap();
    assert!(page.contains("a repetition a step") && page.contains("rank correlation"));
    assert_eq!(std::fs::read_dir(folder.path().join("x/figures")).unwrap().count(), 2 * 2 * 2);
    run(&folder, &["exits", "exits.toml", "--out", "x"]).refused(&["--resume", "--force"]);
}

#[test]
fn exits_of_impossible_chains_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |from: &str, to: &str, parts: &[&str]| {
        std::fs::write(folder.path().join("exits.toml"), EXITS.replace(from, to)).unwrap();
        run(&folder, &["exits", "exits.toml", "--out", "x"]).refused(parts);
    };
    refused("name = \"word\"", "name = \"wrd\"", &["wrd", "revcirc"]);
    refused("shortest = 2", "shortest = 3", &["shortest is 3", "word s3 3"]);
    refused("shortest = 2", "shortest = 0", &["shortest is 0"]);
    refused("changed = 0.05", "changed = 1.5", &["risk", "changed from 0 to 1"]);
    refused("seeds = [0, 1]", "seeds = []", &["seeds is empty"]);
    let pointer = "{ name = \"pointer\", nodes = 5, hops = 3 }";
    let word = "{ name = \"word\", group = \"s3\", length = 3 }";
    refused(word, pointer, &["does not tell how long", "pointer 5 3"]);
    // There are four words of two factors: one split at least has none.
    let short = "{ name = \"word\", group = \"z2\", length = 3 }";
    std::fs::write(folder.path().join("exits.toml"), EXITS.replace(word, short)).unwrap();
    run(&folder, &["exits", "exits.toml", "--set", "learners=[]"]).refused(&["learners is empty"]);
    run(&folder, &["exits", "exits.toml", "--out", "x"])
        .refused(&["word z2 3", "leave out chains this short"]);
}

#[test]
fn examples_of_tasks_are_printed() {
    let folder = folder();
    let found = run(
        &folder,
        &[
            "task", "pointer", "--set", "nodes=6", "--set", "hops=3", "--count", "5", "--seed",
            "4", "--split", "test", "--json",
        ],
    )
    .json();
    let examples = found.as_array().unwrap();
    assert_eq!(examples.len(), 5);
    for example in examples {
        let word = |value: &Value| value.as_str().unwrap().parse::<usize>().unwrap();
        let input: Vec<usize> = example["input"].as_array().unwrap().iter().map(word).collect();
        let mut node = input[6];
        for step in example["chain"].as_array().unwrap() {
            node = input[node];
            assert_eq!(word(&step[0]), node);
        }
        assert_eq!(word(&example["answer"][0]), node);
    }
    let text = run(&folder, &["task", "word", "--view", "loop"]).good().stdout;
    assert!(text.contains("majority") && text.contains("SEP"), "{text}");
    let fillers =
        run(&folder, &["task", "word", "--count", "1", "--view", "filler=3"]).good().stdout;
    assert_eq!(fillers.matches("FILL").count(), 3, "{fillers}");
    let told =
        run(&folder, &["task", "word", "--count", "1", "--view", "chain-at=4"]).good().stdout;
    assert_eq!(
        told.lines()
            .find(|line| line.starts_with("reads"))
            .map(|line| { line.matches("STEP").count() }),
        Some(3),
        "{told}"
    );
    run(&folder, &["task", "word", "--view", "chain-at=0"]).misused(&["chain-at=<steps>"]);
    run(&folder, &["task", "pointr"]).refused(&["pointer"]);
    run(&folder, &["task", "pointer", "--set", "nodes=0"]).refused(&["nodes"]);
}

#[test]
fn anyones_points_are_fitted() {
    let folder = folder();
    let mut csv = String::from("n_once,n_rec,repetitions,tokens,loss\n");
    for (n, r, d) in (1..4).flat_map(|n| (0..3).flat_map(move |r| (1..4).map(move |d| (n, r, d)))) {
        let (once, rec) = (1e5 * f64::from(n), 2e5 * f64::from(n));
        let (r, d) = (2f64.powi(r), 1e6 * 4f64.powi(d));
        let loss = 1.5 + 40.0 * (once + r.powf(0.46) * rec).powf(-0.3) + 90.0 * d.powf(-0.28);
        csv += &format!("{once},{rec},{r},{d},{loss}\n");
    }
    std::fs::write(folder.path().join("runs.csv"), csv).unwrap();
    let found = run(&folder, &["fit", "joint", "runs.csv", "--json"]).json();
    for (name, value) in
        [("E", 1.5), ("A", 40.0), ("alpha", 0.3), ("B", 90.0), ("beta", 0.28), ("phi", 0.46)]
    {
        let estimate = found["parameters"][name]["estimate"].as_f64().unwrap();
        // Noise-free: what is left is where the search ends.
        assert!((estimate / value - 1.0).abs() < 1e-2, "{name}: {estimate}");
    }
    std::fs::write(folder.path().join("bad.csv"), "ratio,low,high\n2,4,3\n").unwrap();
    run(&folder, &["fit", "law", "bad.csv"]).refused(&["low", "bad.csv"]);
    run(&folder, &["fit", "law", "none.csv"]).refused(&["none.csv"]);
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    run(&folder, &["report", "empty"]).refused(&["hint"]);
}
