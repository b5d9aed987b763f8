//! Does the program teach how it is used?

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
    ("evaluate", "teacher student text field window max-tokens repetitions policies halting kv"),
    ("calibrate", "teacher student text field window max-tokens risk repetitions seed refit out"),
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
    ("exits", "out set processes resume force smoke"),
    ("fit", ""),
    ("report", ""),
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
        "exits",
        "fit",
        "report",
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
    assert_eq!((bare.code, bare.stdout.as_str()), (1, ""));
    assert!(bare.stderr.contains("Usage: factorize"), "{}", bare.stderr);
    ask(&["inspect"]).refused(&["<MODEL>"]);
    ask(&["--nonsense"]).refused(&["--nonsense"]);
    ask(&["inspct"]).refused(&["did you mean `factorize inspect`?"]);
    ask(&["--teacher", "x", "inspect", "y"]).refused(&["before the verb"]);
}

#[test]
fn the_schema_the_man_page_and_completions_are_printed() {
    let schema: serde_json::Value = ask(&["schema"]).json();
    assert_eq!(schema["properties"]["seed"]["type"], "integer");
    assert!(schema["$defs"]["StudentConfig"]["properties"]["core_layers"].is_object());
    assert!(ask(&["man"]).good().stdout.contains(".TH factorize"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(ask(&["completions", shell]).good().stdout.contains("unrolled"));
    }
}
