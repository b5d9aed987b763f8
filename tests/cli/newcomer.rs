//! What a newcomer stumbled over, one test a mistake: nothing wrong or lost in silence.

use serde_json::Value;

use super::world::{Ran, World, factorize};

fn evaluate(more: &[&str]) -> Ran {
    let base = ["evaluate", "--teacher", "runs/teacher", "--text", "held-out.txt"];
    World::shared().run(&[&base[..], more].concat())
}

#[test]
fn windows_past_the_context_are_refused_and_past_the_trained_window_noted() {
    let context = World::shared().run(&["inspect", "runs/teacher", "--json"]).json();
    let context = context["max_positions"].as_u64().unwrap();
    let longer = (context + 1).to_string();
    evaluate(&["--window", &longer]).refused(&[
        &format!("windows of {longer} tokens are longer than the model's context of {context}"),
        "in --window",
        "--beyond-context",
    ]);
    let allowed = ["--window", &longer, "--beyond-context", "--max-tokens", "64"];
    evaluate(&allowed).noted(&["warning", "longer than the model's context"]);
    // The teacher of these tests was trained on windows of 32.
    evaluate(&["--window", "64", "--max-tokens", "64"])
        .noted(&["windows of 64 tokens", "trained on windows of 32"]);
    let quiet = evaluate(&["--window", "32", "--max-tokens", "64"]).good();
    assert!(!quiet.stderr.contains("windows of"), "{}", quiet.stderr);
    let set = format!("data.window_tokens={longer}");
    World::shared().distill("too-long", &["--set", &set]).refused(&[
        "longer than the model's context",
        "data.window_tokens",
        "data.beyond_context",
    ]);
}

#[test]
fn the_recipe_of_a_run_can_be_run_from_anywhere() {
    let world = World::shared();
    world.distill("portable", &["--quiet"]).good();
    let recipe = world.path("portable/recipe.toml");
    let text = std::fs::read_to_string(&recipe).unwrap();
    assert!(text.starts_with("# Written by factorize") && text.contains("any folder"), "{text}");
    let elsewhere = tempfile::tempdir().unwrap();
    let again = factorize(elsewhere.path())
        .args([recipe.to_str().unwrap(), "--out", "again", "--quiet"])
        .output()
        .unwrap();
    Ran::from(again).good();
    let student =
        |run: &std::path::Path| std::fs::read(run.join("student/model.safetensors")).unwrap();
    assert_eq!(student(&elsewhere.path().join("again")), student(&world.path("portable")));
    // From elsewhere it is resumed, too: the same paths are the same recipe.
    let out = world.path("portable");
    let resumed = factorize(elsewhere.path())
        .args([recipe.to_str().unwrap(), "--out", out.to_str().unwrap(), "--resume"])
        .output()
        .unwrap();
    Ran::from(resumed).noted(&["this run is finished", "all 6 steps are taken"]);
}

#[test]
fn a_mistyped_model_is_named_and_looked_up_nowhere() {
    let world = World::shared();
    let named = world.run(&["evaluate", "--teacher", "run/teacher", "--text", "held-out.txt"]);
    named.refused(&["no folder `run/teacher`", "did you mean runs/teacher?"]);
    world.run(&["inspect", "runs/nobody"]).refused(&["no folder `runs/nobody`"]);
    world.run(&["studnt.toml", "--teacher", "x"]).refused(&["did you mean student.toml?"]);
    world.run(&["runs/teacher"]).refused(&["this is a folder", "runs/teacher/recipe.toml"]);
    let text = ["evaluate", "--teacher", "runs/teacher", "--text", "hold-out.txt"];
    world.run(&text).refused(&["no such file", "did you mean held-out.txt?"]);
}

#[test]
fn a_card_has_no_base_model_of_a_local_teacher_and_every_form_keeps_results() {
    let world = World::shared();
    world.distill("carded", &["--quiet"]).good();
    let card =
        |folder: &str| std::fs::read_to_string(world.path(folder).join("README.md")).unwrap();
    let student = card("carded/student");
    assert!(!student.contains("base_model"), "{student}");
    for part in [
        "library_name: factorexe",
        "- distillation",
        "- type: perplexity",
        "derive from `runs/teacher`",
        "trained on windows of 32 tokens",
        "a coda of 1 layer.",
    ] {
        assert!(student.contains(part), "`{part}` is not in:\n{student}");
    }
    world.run(&["export", "carded", "--unrolled", "--out", "uncarded"]).good();
    let unrolled = card("uncarded");
    for part in [
        "library_name: transformers",
        "- distillation",
        "- type: perplexity",
        "derive from `runs/teacher`",
        "## Results on held-out text",
        "## Recipe",
    ] {
        assert!(unrolled.contains(part), "`{part}` is not in:\n{unrolled}");
    }
    for folder in ["carded/student", "uncarded"] {
        let read = |name: &str| -> Value {
            let text = std::fs::read(world.path(folder).join(name)).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let (config, generation) = (read("config.json"), read("generation_config.json"));
        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            assert!(generation[key].is_u64(), "{key} of {folder}: {generation}");
            assert_eq!(config[key], generation[key], "{key} of {folder}");
        }
        assert_eq!(config["factorexe_about"]["trained_window_tokens"], 32, "{folder}");
    }
}

#[test]
fn a_licence_goes_from_the_teacher_to_every_form_of_its_student() {
    let world = World::shared();
    let copy = world.path("licensed");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(world.path("runs/teacher/model")).unwrap().flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    std::fs::write(copy.join("README.md"), "---\nlicense: mit\nlanguage: en\n---\n").unwrap();
    let out = ["--out", "heir", "--quiet"];
    world.run(&[&["--teacher", "licensed", "student.toml"][..], &out[..]].concat()).good();
    world.run(&["export", "heir", "--unrolled", "--out", "heir-plain"]).good();
    for folder in ["heir/student", "heir-plain"] {
        let card = std::fs::read_to_string(world.path(folder).join("README.md")).unwrap();
        assert!(card.starts_with("---\nlicense: mit\nlanguage:\n- en\n"), "{card}");
        let found = world.run(&["inspect", folder, "--json"]).json();
        assert_eq!((&found["license"], &found["teacher"]), (&"mit".into(), &"licensed".into()));
    }
}

#[test]
fn inspect_says_what_every_number_is() {
    let found = World::shared().run(&["inspect", "runs/teacher", "--json"]).json();
    for (key, value) in [("heads", 2), ("head_width", 16), ("trained_window_tokens", 32)] {
        assert_eq!(found[key], value, "{key}");
    }
    assert_eq!(found["weight_types"], serde_json::json!(["F32"]));
    for key in ["file_bytes", "mlp_width", "rope_theta"] {
        assert!(found[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(found["tied_head"].is_boolean());
    let table = World::shared().run(&["inspect", "runs/teacher"]).good().stdout;
    for part in ["head size", "context length", "rotary base", "MLP width", "weights stored as"] {
        assert!(table.contains(part), "`{part}` is not in:\n{table}");
    }
}

fn generate(model: &str, more: &[&str]) -> Ran {
    let base = ["generate", "--model", model, "--max-tokens", "4"];
    World::shared().run(&[&base[..], more].concat())
}

#[test]
fn flags_that_would_change_nothing_are_refused() {
    let prompt = ["--prompt", "we must"];
    let refuse = |more: &[&str], parts: &[&str]| {
        generate("runs/teacher", &[&prompt[..], more].concat()).refused(parts);
    };
    refuse(&["--repetitions", "3"], &["--repetitions needs a student", "applied once"]);
    refuse(&["--kv", "last"], &["--kv needs a student"]);
    generate("runs/teacher", &[&prompt[..], &["--top-k", "5"]].concat())
        .misused(&["--top-k changes nothing at temperature 0", "--temperature 0.8"]);
    let states = ["states", "--model", "runs/teacher", "--ids", "1", "--out", "no.safetensors"];
    World::shared()
        .run(&[&states[..], &["--repetitions", "2"]].concat())
        .refused(&["--repetitions needs a student"]);
    evaluate(&["--repetitions", "2"]).misused(&["--student"]);
    evaluate(&["--kv", "last"]).misused(&["--policies"]);
    let world = World::shared();
    world.distill("plainly", &["--quiet"]).good();
    generate("plainly", &[&prompt[..], &["--kv", "last"]].concat())
        .misused(&["--kv changes nothing here", "--policy"]);
}

#[test]
fn several_prompts_are_told_apart_and_blank_lines_are_none() {
    let world = World::shared();
    world.write("blanks.txt", "we must\n\n   \nthe peace of our great nation\n");
    let text = generate("runs/teacher", &["--prompts", "blanks.txt"]).good().stdout;
    for part in ["[1] we must\n", "\n\n[2] the peace of our great nation\n"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    let json = generate("runs/teacher", &["--prompts", "blanks.txt", "--json"]).json();
    assert_eq!(json.as_array().unwrap().len(), 2);
    world.write("only-blanks.txt", "\n\n");
    generate("runs/teacher", &["--prompts", "only-blanks.txt"]).refused(&["no prompts"]);
    let from_stdin = |text: &str| {
        use std::io::Write;
        let arguments = ["generate", "--model", "runs/teacher", "--prompt", "-", "--json"];
        let mut command = world.command(&arguments);
        let piped = std::process::Stdio::piped;
        let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        Ran::from(child.wait_with_output().unwrap()).json()
    };
    assert_eq!(from_stdin("we must\n")[0]["prompt"], "we must");
    assert_eq!(from_stdin("we must\n")[0]["ids"], from_stdin("we must")[0]["ids"]);
}

#[test]
fn a_chat_model_without_its_template_is_noted() {
    let world = World::shared();
    let copy = world.path("chatty");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(world.path("runs/teacher/model")).unwrap().flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let template = "{% for m in messages %}{{ m['content'] }}{% endfor %}";
    std::fs::write(copy.join("chat_template.jinja"), template).unwrap();
    generate("chatty", &["--prompt", "we must"]).noted(&["chat template", "--chat"]);
    let chat = generate("chatty", &["--prompt", "we must", "--chat"]).good();
    assert!(!chat.stderr.contains("chat template"), "{}", chat.stderr);
}

#[test]
fn a_resumed_run_says_where_it_goes_on_and_what_changed() {
    let world = World::shared();
    world.distill("longer", &["--quiet"]).good();
    let more = ["--resume", "--set", "train.steps=8", "--set", "train.optimizer.clip_norm=0.5"];
    world.distill("longer", &more).noted(&[
        "resumed from step 6 of 8",
        "train.steps was 6, and is 8 now",
        "train.optimizer.clip_norm was 1.0, and is 0.5 now",
    ]);
    world.distill("longer", &more).noted(&["this run is finished", "all 8 steps are taken"]);
}

#[test]
fn another_phase_is_noted_and_marked_on_the_page() {
    let world = World::shared();
    let phases = "phases={ teacher_forced = 0.34, scheduled_until = 0.34 }";
    world
        .distill("phased", &["--set", phases])
        .noted(&["the free-running phase begins at step 4", "may jump"]);
    let lines = std::fs::read_to_string(world.path("phased/metrics.jsonl")).unwrap();
    let steps = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let steps: Vec<Value> = steps.filter(|line| line.get("loss").is_some()).collect();
    assert_eq!(steps[2]["phase"], "teacher-forced");
    assert_eq!(steps[3]["phase"], "free-running");
    world.run(&["report", "phased"]).good();
    let page = std::fs::read_to_string(world.path("phased/report.html")).unwrap();
    assert!(page.contains("data-reference=\"free-running phase\""));
}

#[test]
fn training_is_validated_by_default() {
    let world = World::shared();
    let recipe = std::fs::read_to_string(world.path("student.toml")).unwrap();
    world.write("unvalidated.toml", &recipe.replace("validate_every_steps = 3\n", ""));
    let run = |out: &str, more: &[&str]| {
        let base = ["--teacher", "runs/teacher", "unvalidated.toml", "--smoke", "--out", out];
        world.run(&[&base[..], more].concat())
    };
    run("validated", &["--quiet"]).good();
    let lines = std::fs::read_to_string(world.path("validated/metrics.jsonl")).unwrap();
    assert!(lines.contains("\"validation\""), "{lines}");
    run("unheld", &["--set", "data.validation=0"]).noted(&["nothing is validated"]);
}

#[test]
fn a_start_that_fails_leaves_no_folder() {
    let world = World::shared();
    world
        .distill("never-begun", &["--set", "data.files=[\"nothing.txt\"]"])
        .refused(&["nothing.txt"]);
    assert!(!world.path("never-begun").exists());
    let teacher = ["--teacher", "runs/nobody", "student.toml", "--out", "never-begun"];
    world.run(&teacher).refused(&["runs/nobody"]);
    assert!(!world.path("never-begun").exists());
}

#[test]
fn a_training_that_diverged_says_what_to_lower() {
    let world = World::shared();
    let lr = ["--set", "train.optimizer.lr=1e30", "--set", "train.optimizer.clip_norm=1e30"];
    world.distill("diverged", &lr).refused(&["train.optimizer.lr", "1e30", "warmup_steps"]);
}

#[test]
fn one_document_needs_a_split_within_it() {
    let world = World::shared();
    let one = ["--set", "data.files=[\"held-out.txt\"]", "--smoke"];
    world.distill("one", &one).refused(&["no text in the test split", "data.split_by"]);
    let within = ["--set", "data.split_by=passage"];
    world.distill("one", &[&one[..], &within].concat()).good();
    let eval = std::fs::read(world.path("one/eval.json")).unwrap();
    let eval: Value = serde_json::from_slice(&eval).unwrap();
    assert!(eval["teacher"]["tokens"].as_u64().unwrap() > 1);
}

#[test]
fn tables_fit_a_terminal_and_say_what_they_rest_on() {
    let world = World::shared();
    let ran = world.distill("tabled", &[]).good();
    let table: Vec<&str> = ran.stdout.lines().take_while(|line| !line.is_empty()).collect();
    assert!(table.iter().all(|line| line.chars().count() <= 80), "{}", ran.stdout);
    let text = table.join(" ");
    for part in ["95 % confidence interval", "predicted tokens of", "trained at N = 2"] {
        assert!(text.contains(part), "`{part}` is not in:\n{}", ran.stdout);
    }
    let eval = std::fs::read(world.path("tabled/eval.json")).unwrap();
    let eval: Value = serde_json::from_slice(&eval).unwrap();
    let teacher = &eval["teacher"];
    let number = |key: &str| teacher[key].as_f64().unwrap();
    // By its definition: log2 of the probability of all tokens, over all bytes.
    let bits = number("nll_nats") * number("tokens") / std::f64::consts::LN_2;
    let expected = bits / eval["text_bytes"].as_f64().unwrap();
    assert!((number("bits_per_byte") / expected - 1.0).abs() < 1e-9, "{teacher}");
    assert!(eval["student"][0]["bits_per_byte"].is_f64());
}

#[test]
fn a_recipe_of_another_verb_is_sent_there() {
    let world = World::shared();
    world.write("a-law.toml", "seeds = [0]\n[controls]\nuntied = true");
    world.run(&["a-law.toml"]).refused(&["`factorize law`", "factorize law a-law.toml"]);
    world.run(&["law", "student.toml"]).refused(&["`factorize distill`", "distill student.toml"]);
    world.run(&["teacher.toml"]).refused(&["factorize pretrain teacher.toml"]);
}

#[test]
fn tokens_are_printed_and_counted() {
    let world = World::shared();
    let base = ["tokenize", "--model", "runs/teacher"];
    let tokens = world.run(&[&base[..], &["--prompt", "we must keep", "--json"]].concat()).json();
    let pieces = tokens["pieces"].as_array().unwrap().iter().map(|piece| piece.as_str().unwrap());
    assert_eq!(pieces.collect::<String>(), "we must keep");
    assert_eq!(tokens["ids"].as_array().unwrap().len(), tokens["pieces"].as_array().unwrap().len());
    let counted = world.run(&[&base[..], &["--text", "held-out.txt", "--json"]].concat()).json();
    let bytes = std::fs::metadata(world.path("held-out.txt")).unwrap().len();
    assert_eq!((&counted["documents"], &counted["bytes"]), (&1.into(), &bytes.into()));
    assert!(counted["tokens"].as_u64().unwrap() > 9);
    world.run(&base).misused(&["--prompt"]);
}

#[test]
fn points_of_several_laws_are_not_pooled_in_silence() {
    let world = World::shared();
    let head = "ratio,low,high,target,trained\n";
    world.write("pooled.csv", &format!("{head}2,1,2,a,at-n\n4,3,4,b,at-n\n8,7,8,b,at-n\n"));
    world.run(&["fit", "law", "pooled.csv"]).noted(&["2 values of `target` (a; b)", "one law"]);
    world.write("single.csv", &format!("{head}2,1,2,a,at-n\n4,3,4,a,at-n\n8,7,8,a,at-n\n"));
    let ran = world.run(&["fit", "law", "single.csv"]).good();
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
}

#[test]
fn states_and_export_print_json() {
    let world = World::shared();
    let states = ["states", "--model", "runs/teacher", "--ids", "1,2", "--json", "--out"];
    let found = world.run(&[&states[..], &["of-two.safetensors"]].concat()).json();
    assert_eq!(found["tensors"]["hidden.0"], serde_json::json!([1, 2, 32]));
    let export = ["export", "runs/teacher", "--dtype", "f16", "--json", "--out", "halved"];
    let found = world.run(&export).json();
    assert_eq!((&found["folder"], &found["dtype"]), (&"halved".into(), &"f16".into()));
}
