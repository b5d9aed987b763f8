//! Do the controls control, and are the shortcuts measured?

use std::collections::{HashMap, HashSet};

use factorexe::data::tasks::{TaskConfig, TaskSplit, baselines};

use super::{TASKS, all_tasks, is_right, task, train};

#[test]
fn shuffled_chains_are_another_problems_and_the_answer_stays_right() {
    for (name, settings) in TASKS {
        let exact = task(name, settings);
        let shuffled = task(name, &[*settings, &["chains=shuffled"]].concat());
        let length = exact.chain_length();
        let mut foreign = 0;
        for index in 0..50 {
            let (mut shown, own) = (train(&shuffled, index, length), train(&exact, index, length));
            assert_eq!((&shown.input, &shown.answer), (&own.input, &own.answer));
            assert!(is_right(&shuffled, &shown));
            foreign += usize::from(shown.steps != own.steps);
            shown.answer[0] = if shown.answer[0] == 8 { 9 } else { 8 };
            assert!(!is_right(&shuffled, &shown));
        }
        // Another word of z2 or three keys has the same long chain only rarely.
        assert!(foreign >= 45, "{name} {settings:?}: {foreign} of 50");
    }
}

#[test]
fn labels_of_reversible_circuits_are_balanced_at_every_depth() {
    const EXAMPLES: u64 = 4096;
    // Five standard deviations of a mean of 4096 fair bits, 0.5 / 64 each.
    const FAIR: f64 = 5.0 * 0.5 / 64.0;
    let task = task("revcirc", &["gates=32"]);
    let mut ones = vec![vec![0; task.width()]; 32];
    for index in 0..EXAMPLES {
        for (depth, state) in train(&task, index, 32).steps.iter().enumerate() {
            for (wire, bit) in state.iter().enumerate() {
                ones[depth][wire] += bit - 8;
            }
        }
    }
    for count in ones.concat() {
        let mean = f64::from(count) / EXAMPLES as f64;
        assert!((mean - 0.5).abs() < FAIR, "{mean}");
    }
}

#[test]
fn every_step_of_the_table_task_has_its_own_rule_and_none_forgets() {
    let task = task("table", &["keys=4", "length=8"]);
    let mut rules: HashMap<(usize, u32), HashMap<u32, u32>> = HashMap::new();
    for index in 0..2000 {
        let example = train(&task, index, 8);
        let mut state = example.input[0];
        for (step, next) in example.steps.iter().enumerate() {
            let rule = rules.entry((step, example.input[step + 1])).or_default();
            // A rule is a function: it never says two things.
            assert_eq!(*rule.entry(state).or_insert(next[0]), next[0]);
            state = next[0];
        }
    }
    assert_eq!(rules.len(), 8 * 4);
    for rule in rules.values() {
        assert_eq!(rule.values().collect::<HashSet<_>>().len(), 4);
    }
    let table = |step| {
        let mut table: Vec<_> = (8..12)
            .flat_map(|key| rules[&(step, key)].iter().map(move |(from, to)| (key, *from, *to)))
            .collect();
        table.sort_unstable();
        table
    };
    // 24^4 tables: eight of them are all different.
    assert_eq!((0..8).map(table).collect::<HashSet<_>>().len(), 8);
}

#[test]
fn no_shortcut_solves_a_long_chain() {
    // Of 1000 examples; five standard deviations at 0.2 are 0.063.
    const NOISE: f64 = 0.065;
    for (name, settings, least_chance) in [
        ("word", &["group=a5"][..], 1.0 / 60.0),
        ("pointer", &[], 1.0 / 15.0),
        ("revcirc", &["gates=16"], 1.0 / 64.0),
        ("table", &[], 1.0 / 6.0),
    ] {
        let task = task(name, settings);
        let found = baselines(&task, TaskSplit::Test, 0, 1000, task.chain_length()).unwrap();
        assert!((found.chance - least_chance).abs() < 1e-12, "{found:?}");
        for share in [found.majority, found.copy_input, found.last_token] {
            assert!(share < found.chance + NOISE, "{name}: {found:?}");
        }
    }
}

#[test]
fn shortcuts_that_exist_are_found() {
    // One operand is its own sum.
    let one = task("addition", &["operands=1", "digits=2"]);
    let found = baselines(&one, TaskSplit::Test, 0, 200, 1).unwrap();
    assert!((found.copy_input - 1.0).abs() < f64::EPSILON, "{found:?}");
    assert!((found.chance - 0.01).abs() < 1e-12);

    // The product of one factor is that factor, the last token.
    let word = task("word", &["group=zm", "modulus=100"]);
    let found = baselines(&word, TaskSplit::Train, 0, 2000, 1).unwrap();
    assert!((found.last_token - 1.0).abs() < f64::EPSILON, "{found:?}");
    assert!(baselines(&word, TaskSplit::Train, 0, 0, 1).is_err());

    // The sum of 16 fair bits is 8 in C(16, 8) of 2^16 cases; after the last, C(15, 7) of 2^15.
    let bits = task("word", &["group=zm", "generators=2"]);
    let found = baselines(&bits, TaskSplit::Test, 0, 2000, 16).unwrap();
    // Five standard deviations of a share of 0.196 in 2000.
    assert!((found.majority - 0.196).abs() < 0.045, "{found:?}");
    assert!((found.last_token - 0.196).abs() < 0.045, "{found:?}");

    // Nearly every last token is met once: learned by heart, the fitted examples would all be right.
    let wide = task("word", &["group=zm", "modulus=4096"]);
    let found = baselines(&wide, TaskSplit::Train, 0, 200, 8).unwrap();
    assert!(found.last_token < 0.1, "{found:?}");
}

#[test]
fn what_is_written_is_read_again_and_keeps_to_its_schema() {
    for task in all_tasks() {
        let json = serde_json::to_value(task.config()).unwrap();
        assert_eq!(serde_json::from_value::<TaskConfig>(json.clone()).unwrap(), *task.config());
        let text = toml::to_string(task.config()).unwrap();
        assert_eq!(toml::from_str::<TaskConfig>(&text).unwrap(), *task.config());
        let mut unknown = json;
        unknown["lenght"] = 3.into();
        assert!(serde_json::from_value::<TaskConfig>(unknown).is_err());
        let example = train(&task, 0, task.chain_length());
        let json = serde_json::to_string(&example).unwrap();
        assert_eq!(
            serde_json::from_str::<factorexe::data::tasks::Example>(&json).unwrap(),
            example
        );
    }
}

#[test]
fn the_schema_names_every_task_and_allows_no_other_settings() {
    let schema = schemars::schema_for!(TaskConfig).to_value();
    let tasks = schema["oneOf"].as_array().unwrap();
    assert_eq!(tasks.len(), 7);
    for task in tasks {
        assert!(task["properties"]["name"]["const"].is_string(), "{task}");
        assert!(task["properties"]["chains"].is_object(), "{task}");
        assert_eq!(task["additionalProperties"], false, "{task}");
    }
}
