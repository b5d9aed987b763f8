//! Can a student be asked for any compute budget, by commands alone?

use super::world::{Ran, World};

const TEXT: [&str; 6] = ["--text", "held-out.txt", "--window", "24", "--max-tokens", "96"];

fn calibrated(out: &str) -> &'static World {
    let world = World::shared();
    world.distill(out, &["--quiet", "--set", "student.repetitions=3"]).good();
    let models = ["calibrate", "--teacher", "runs/teacher", "--student", out, "--json"];
    let found = world.run(&[&models[..], &TEXT[..]].concat()).json();
    assert_eq!((&found["repetitions"], &found["width"]), (&3.into(), &32.into()));
    assert_eq!(found["policies"].as_array().unwrap().len(), 10);
    let kept = std::fs::read_to_string(world.path(out).join("student/halting.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&kept).unwrap(), found);
    world
}

fn generate(world: &World, model: &str, more: &[&str]) -> Ran {
    let base = ["generate", "--model", model, "--max-tokens", "6", "--temperature", "0", "--json"];
    world.run(&[&base[..], more].concat())
}

#[test]
fn a_student_is_calibrated_evaluated_and_asked_for_budgets() {
    let world = calibrated("halts");
    let models = ["evaluate", "--teacher", "runs/teacher", "--student", "halts"];
    let policies = ["--policies", "all", "--json"];
    let found = world.run(&[&models[..], &TEXT[..], &policies[..]].concat()).json();
    let scores = found["policies"].as_array().unwrap();
    assert_eq!(scores.len(), 10);
    for score in scores {
        let mean = score["mean_repetitions"].as_f64().unwrap();
        assert!((1.0..=3.0).contains(&mean), "{score}");
        for key in ["threshold", "perplexity", "kl_nats", "agreement", "tokens_per_s"] {
            assert!(score[key].as_f64().unwrap() >= 0.0, "{key}");
        }
        let stops = score["stops"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap());
        // Four windows of 24 tokens predict 23 each.
        assert_eq!(stops.sum::<u64>(), 92);
    }
    let oracle = &found["oracle"];
    let full = &found["student"][2];
    assert_eq!(oracle["agreement"], full["agreement"], "{oracle} {full}");
    assert!(oracle["mean_repetitions"].as_f64().unwrap() <= 3.0);
    // A fixed depth decodes to what the other path evaluates.
    let fixed = scores.iter().find(|score| score["name"] == "fixed").unwrap();
    let depth = fixed["threshold"].as_f64().unwrap() as usize;
    let same = found["student"][depth - 1]["perplexity"].as_f64().unwrap();
    assert!((fixed["perplexity"].as_f64().unwrap() / same - 1.0).abs() < 1e-4);

    let prompt = ["--prompt", "we must"];
    let one = |more: &[&str]| generate(world, "halts", &[&prompt[..], more].concat()).json();
    let plain = &one(&[])[0];
    assert_eq!(plain["ids"].as_array().unwrap().len(), 6);
    assert_eq!(plain["repetitions"], serde_json::json!([3, 3, 3, 3, 3, 3]));
    assert!(plain["tokens_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(one(&["--speculate", "1"])[0]["ids"], plain["ids"]);
    let most = &one(&["--budget", "max=2"])[0];
    assert_eq!(most["ids"], one(&["--repetitions", "2"])[0]["ids"]);
    let loose = &one(&["--policy", "change", "--threshold", "100"])[0];
    assert_eq!(loose["ids"], one(&["--repetitions", "1"])[0]["ids"]);
    assert_eq!(loose["repetitions"], serde_json::json!([1, 1, 1, 1, 1, 1]));
    for policy in ["exit-gate", "ponder", "act", "correctness", "kl", "gap", "stable", "change"] {
        for kv in ["catch-up", "last", "own", "window=1"] {
            let found = &one(&["--policy", policy, "--kv", kv])[0];
            assert_eq!(found["ids"].as_array().unwrap().len(), 6, "{policy} {kv}");
        }
    }
    for weights in ["bf16", "int8"] {
        assert_eq!(one(&["--weights", weights])[0]["ids"].as_array().unwrap().len(), 6);
    }
    world.write("prompts.txt", "we must\nthe peace of our great nation\n");
    let both = generate(world, "halts", &["--prompts", "prompts.txt"]).json();
    assert_eq!(both.as_array().unwrap().len(), 2);
    assert_eq!(both[0]["ids"], plain["ids"]);

    let bench = ["bench", "decode", "--model", "halts", "--tokens", "5", "--json"];
    let fast = world.run(&[&bench[..], &["--budget", "max=1"]].concat()).json();
    assert_eq!(fast["mean_repetitions"], 1.0);
    for key in ["tokens_per_s", "peak_rss_mib", "weights_mib", "memory_gb_per_s"] {
        assert!(fast[key].as_f64().unwrap() > 0.0, "{key}");
    }
}

#[test]
fn budgets_thresholds_and_heads_that_make_no_sense_are_refused() {
    let world = calibrated("refuses");
    world.distill("another", &["--quiet", "--seed", "9", "--set", "student.repetitions=3"]).good();
    let ask = |model: &str, more: &[&str]| {
        generate(world, model, &[&["--prompt", "we must"], more].concat())
    };
    ask("refuses", &["--budget", "0.5"]).misused(&["0.5 repetitions", "1 or more"]);
    ask("refuses", &["--budget", "max=0"]).misused(&["expected 1 or more"]);
    ask("refuses", &["--budget", "cheap"]).misused(&["`cheap` is not a budget", "90%=3"]);
    ask("refuses", &["--policy", "kll"]).misused(&["not a halting policy", "exit-gate"]);
    ask("refuses", &["--policy", "gap", "--threshold", "1.5"]).refused(&["threshold of `gap`"]);
    ask("refuses", &["--speculate", "3"]).refused(&["fewer repetitions than verify"]);
    ask("refuses", &["--speculate", "1", "--budget", "2"]).refused(&["either"]);
    ask("refuses", &["--kv", "window=0"]).misused(&["catch-up, last, own, or window"]);
    ask("refuses", &["--weights", "int4"]).misused(&["f32, bf16 or int8"]);
    generate(world, "refuses", &[]).misused(&["--prompt"]);
    ask("refuses", &["--repetitions", "99999999"]).refused(&["expected 1 to 65536"]);
    ask("refuses", &["--repetitions", "9", "--budget", "2"]).refused(&["at most 3", "calibrate"]);
    ask("another", &["--budget", "2"]).refused(&["not calibrated", "factorize calibrate"]);
    let borrowed = world.path("refuses/student/halting.json");
    let borrowed = ["--budget", "2", "--halting", borrowed.to_str().unwrap()];
    ask("another", &borrowed).refused(&["another model"]);
    ask("runs/teacher", &["--budget", "2"]).refused(&["--budget needs a student"]);
    world.write("damaged.json", "{\"student\": \"abc\"");
    ask("refuses", &["--budget", "2", "--halting", "damaged.json"])
        .refused(&["not a halting head"]);
    let long = "peace ".repeat(4000);
    ask("refuses", &["--prompt", &long]).misused(&["cannot be used multiple times"]);
    generate(world, "refuses", &["--prompt", &long]).refused(&["this model reads 1 to"]);
    let models = ["calibrate", "--teacher", "runs/teacher", "--student", "refuses"];
    let of = |more: &[&str]| world.run(&[&models[..], more].concat());
    of(&[&TEXT[..], &["--risk", "kl=-1"]].concat()).misused(&["not a risk"]);
    of(&["--text", "held-out.txt", "--max-tokens", "8"]).refused(&["too few"]);
    of(&[&TEXT[..], &["--repetitions", "1"]].concat()).refused(&["nothing to choose"]);
}
