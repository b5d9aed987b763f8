//! Help, schemas, man pages, and errors of the command line.

use super::world::{Ran, factorize};

fn ask(arguments: &[&str]) -> Ran {
    factorize(std::path::Path::new(".")).args(arguments).output().unwrap().into()
}

/// Every long flag of every verb: what scripts may rely on.
const FLAGS: &[(&str, &str)] = &[
    ("", "teacher live out set seed resume force smoke"),
    ("inspect", ""),
    ("pretrain", "out set seed resume force smoke"),
    ("distill", "teacher live out set seed resume force smoke"),
    (
        "evaluate",
        "teacher student text field window beyond-context max-tokens repetitions policies halting \
         kv",
    ),
    (
        "calibrate",
        "teacher student text field window beyond-context max-tokens risk repetitions seed refit out",
    ),
    (
        "generate",
        "model prompt prompts max-tokens temperature top-k top-p min-p repetition-penalty seed stop \
         repetitions chat speculate draft-tokens budget policy threshold halting kv weights",
    ),
    ("states", "model ids out repetitions"),
    ("export", "out unrolled repetitions dtype force"),
    ("bench", ""),
    ("bench step", "width ffn core repetitions heads batch tokens vocab steps recompute reference"),
    ("bench prefill", "model batch tokens steps"),
    ("bench decode", "model tokens texts repetitions budget policy threshold halting kv weights"),
    ("bench peak", "width ffn vocab batch tokens"),
    ("task", "set count seed split length view"),
    ("law", "out set processes resume force smoke"),
    ("scaling", "out set processes resume force smoke"),
    ("halting", "out set processes resume force smoke"),
    ("exits", "out set processes resume force smoke"),
    ("init", "teacher text field force"),
    ("recipes", ""),
    ("tokenize", "model prompt text field chat"),
    ("fit", ""),
    ("report", "markdown table"),
    ("schema", ""),
    ("completions", ""),
    ("man", ""),
];
const COMMON: &str = "device threads json cache cache-limit verbose quiet help";

#[test]
fn every_verb_has_the_flags_it_promises_and_no_others() {
    for (verb, own) in FLAGS {
        let mut arguments: Vec<&str> = verb.split_whitespace().collect();
        arguments.push("--help");
        let help = ask(&arguments).good().stdout;
        let found: std::collections::BTreeSet<&str> = help
            .lines()
            .filter(|line| line.trim_start().starts_with('-'))
            .filter_map(|line| line.split("--").nth(1)?.split([' ', '.']).next())
            .filter(|flag| *flag != "version")
            .collect();
        let promised = own.split_whitespace().chain(COMMON.split_whitespace()).collect();
        assert_eq!(found, promised, "flags of `{verb}`");
    }
}

#[test]
fn help_teaches_by_examples() {
    let verbs = [
        "",
        "inspect",
        "pretrain",
        "distill",
        "evaluate",
        "calibrate",
        "generate",
        "states",
        "export",
        "task",
        "law",
        "scaling",
        "halting",
        "fit",
        "report",
        "init",
        "recipes",
        "tokenize",
        "schema",
        "man",
    ];
    let timed = ["bench", "bench step", "bench prefill", "bench decode", "bench peak"];
    for verb in verbs.into_iter().chain(timed) {
        let mut arguments: Vec<&str> = verb.split_whitespace().collect();
        arguments.push("--help");
        let help = ask(&arguments).good().stdout;
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains(&format!("factorize {verb}")), "{help}");
        assert!(help.lines().all(|line| line.len() <= 102), "{help}");
    }
    assert_eq!(ask(&["--version"]).good().stdout.trim(), "factorize 0.1.0");
}

#[test]
fn no_arguments_and_wrong_arguments_are_the_users_to_mend() {
    let bare = ask(&[]);
    assert_eq!((bare.code, bare.stdout.as_str()), (2, ""));
    assert!(bare.stderr.contains("Usage: factorize"), "{}", bare.stderr);
    ask(&["inspect"]).misused(&["<MODEL>"]);
    ask(&["--nonsense"]).misused(&["--nonsense"]);
    ask(&["inspct"]).misused(&["did you mean `factorize inspect`?"]);
    ask(&["train", "x.toml"])
        .misused(&["there is no verb `train`", "`factorize distill` or `factorize pretrain`"]);
    ask(&["--teacher", "x", "inspect", "y"]).misused(&["before the verb"]);
    ask(&["-vv", "inspect", "y"]).misused(&["--verbose", "multiple times"]);
    ask(&["--threads", "0", "recipes"]).misused(&["--threads 0", "1 to 4096"]);
    let negative = ["generate", "--model", "x", "--prompt", "y", "--temperature", "-1"];
    ask(&negative).refused(&["temperature is -1, expected 0 or more"]);
}

#[test]
fn help_of_a_verb_is_asked_for_in_either_order() {
    let page = ask(&["evaluate", "--help"]).good().stdout;
    assert_eq!(ask(&["help", "evaluate"]).good().stdout, page);
    assert!(page.contains("--max-tokens"), "{page}");
    assert_eq!(ask(&["help"]).good().stdout, ask(&["--help"]).good().stdout);
}

#[test]
fn every_kind_of_recipe_has_a_schema() {
    let schema = |kind: &[&str]| -> serde_json::Value { ask(&[&["schema"], kind].concat()).json() };
    assert_eq!(schema(&[]), schema(&["distill"]));
    assert_eq!(schema(&[])["properties"]["seed"]["type"], "integer");
    assert!(schema(&[])["$defs"]["StudentConfig"]["properties"]["core_layers"].is_object());
    for (kind, key) in [
        ("pretrain", "model"),
        ("law", "targets"),
        ("scaling", "joint"),
        ("halting", "learners"),
        ("exits", "learners"),
    ] {
        assert!(schema(&[kind])["properties"][key].is_object(), "{kind}");
    }
    let tasks = schema(&["task"]).to_string();
    assert!(tasks.contains("hops") && tasks.contains("wires"), "{tasks}");
    ask(&["schema", "laws"]).misused(&["distill", "halting"]);
}

#[test]
fn the_man_page_has_the_options_of_every_verb() {
    let page = ask(&["man"]).good().stdout;
    assert!(page.contains(".TH factorize"), "{page}");
    for (verb, own) in FLAGS.iter().filter(|(verb, _)| !verb.is_empty() && *verb != "exits") {
        let heading = format!("FACTORIZE {}\n", verb.to_uppercase());
        assert!(page.contains(&heading), "{heading}");
        for flag in own.split_whitespace() {
            assert!(page.contains(&flag.replace('-', "\\-")), "{flag} of {verb}");
        }
    }
    let one = ask(&["man", "evaluate"]).good().stdout;
    assert!(one.contains("beyond\\-context") && !one.contains("FACTORIZE"), "{one}");
    ask(&["man", "nothing"]).misused(&["no verb `nothing`"]);
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(ask(&["completions", shell]).good().stdout.contains("unrolled"));
    }
}

#[test]
fn the_recipes_that_ship_are_listed_and_printed() {
    let list = ask(&["recipes"]).good().stdout;
    for part in ["recipes/tiny.toml  (factorize distill)", "(factorize law)", "Cost: "] {
        assert!(list.contains(part), "`{part}` is not in:\n{list}");
    }
    assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
    let tiny = std::fs::read_to_string("recipes/tiny.toml").unwrap();
    for name in ["tiny", "tiny.toml", "recipes/tiny.toml"] {
        assert_eq!(ask(&["recipes", name]).good().stdout, tiny, "{name}");
    }
    ask(&["recipes", "tinny"]).misused(&["did you mean `tiny`?"]);
    let verbs = ask(&["recipes", "--json"]).json();
    assert!(verbs.as_array().unwrap().iter().any(|recipe| recipe["verb"] == "halting"));
}

#[test]
fn an_error_is_json_where_the_result_is() {
    let missing = ask(&["inspect", "recipe/sotu-12l", "--json"]);
    missing.refused(&["no folder `recipe/sotu-12l`"]);
    let error: serde_json::Value = serde_json::from_str(&missing.stdout).unwrap();
    let error = &error["error"];
    assert_eq!((&error["kind"], &error["exit_code"]), (&"input".into(), &1.into()));
    assert_eq!(error["hint"], "did you mean recipes/sotu-12l?");
    let usage = ask(&["inspect", "--json"]);
    usage.misused(&["<MODEL>"]);
    let error: serde_json::Value = serde_json::from_str(&usage.stdout).unwrap();
    assert_eq!(
        (&error["error"]["kind"], &error["error"]["exit_code"]),
        (&"usage".into(), &2.into())
    );
    let csv = ask(&["fit", "law", "nowhere.csv", "--json"]);
    csv.refused(&["no such file of points", "nowhere.csv", "points.csv of a study"]);
    assert_eq!(ask(&["inspect", "recipe/sotu-12l"]).stdout, "");
}
