//! Is every chain right, and is everything else refused?

use std::collections::HashSet;

use factorexe::data::tasks::{FIRST_SYMBOL, TaskConfig, TaskSplit};
use proptest::prelude::*;

use super::{TASKS, all_tasks, example, is_right, long_enough, task, train};

#[test]
fn another_method_finds_every_chain_right_at_every_length() {
    for task in all_tasks() {
        for length in long_enough(&task, 1)..=task.chain_length() {
            for index in 0..20 {
                let example = train(&task, index, length);
                assert_eq!(example.steps.len(), length);
                factorexe::data::tasks::check(&task, &example).unwrap();
            }
        }
    }
}

#[test]
fn worked_examples_are_accepted_and_their_like_refused() {
    // (0 1) after (0 1 2): 0 -> 1 -> 0, 1 -> 2 -> 2, 2 -> 0 -> 1.
    let s3 = task("word", &[]);
    assert!(is_right(&s3, &example(&s3, "102 120", &["102", "021"], "021")));
    // The other order is another element: 0 -> 1 -> 2.
    assert!(!is_right(&s3, &example(&s3, "102 120", &["102", "210"], "210")));

    let z7 = task("word", &["group=zm", "modulus=7"]);
    assert!(is_right(&z7, &example(&z7, "5 4 6", &["5", "2", "1"], "1")));

    let pointer = task("pointer", &["nodes=4", "hops=3"]);
    assert!(is_right(&pointer, &example(&pointer, "2 3 1 0 3", &["0", "2", "1"], "1")));

    let circuit = task("revcirc", &["wires=3"]);
    let gates = "1 1 0 toffoli:0,1>2 cnot:2>0 not:1";
    assert!(is_right(&circuit, &example(&circuit, gates, &["1 1 1", "0 1 1", "0 0 1"], "0 0 1")));

    // 57 + 68 = 125, then 125 + 99 = 224.
    let addition = task("addition", &["operands=3", "digits=2"]);
    let steps = &["7 5 0", "5 2 1", "4 2 2"];
    assert!(is_right(&addition, &example(&addition, "7 5 8 6 9 9", steps, "4 2 2")));

    // 97 * 48: 97 * 8 = 776, and 97 * 40 more is 4656.
    let product = task("multiplication", &["digits=2"]);
    let steps = &["6 7 7 0", "6 5 6 4"];
    assert!(is_right(&product, &example(&product, "7 9 8 4", steps, "6 5 6 4")));

    // 3 - 1 - 0 and 3 - 4 - 2.
    let star = task("path-star", &["arms=2", "length=2"]);
    let edges = "4 2 3 1 1 0 3 4";
    assert!(is_right(&star, &example(&star, &format!("{edges} 3 2"), &["4", "2"], "4 2")));
    assert!(!is_right(&star, &example(&star, &format!("{edges} 3 2"), &["1", "2"], "1 2")));
}

proptest! {
    #[test]
    fn a_corrupted_step_or_answer_is_refused(
        which in 0..TASKS.len(),
        index in any::<u64>(),
        place in any::<prop::sample::Index>(),
        token in any::<prop::sample::Index>(),
    ) {
        let task = task(TASKS[which].0, TASKS[which].1);
        let length = long_enough(&task, 1 + index as usize % task.chain_length());
        let mut example = train(&task, index, length);
        prop_assert!(is_right(&task, &example));
        let mut parts: Vec<&mut Vec<u32>> = example.steps.iter_mut().collect();
        parts.push(&mut example.answer);
        let mut places: Vec<&mut u32> = parts.into_iter().flatten().collect();
        let place = place.index(places.len());
        let others: Vec<u32> =
            (0..task.vocabulary() as u32).filter(|other| other != places[place]).collect();
        *places[place] = *token.get(&others);
        prop_assert!(!is_right(&task, &example), "{example:?}");
    }

    #[test]
    fn no_example_however_broken_makes_the_checker_panic(
        which in 0..TASKS.len(),
        tokens in prop::collection::vec(any::<u32>(), 0..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let task = task(TASKS[which].0, TASKS[which].1);
        let mut example = train(&task, 0, task.chain_length());
        let known = |token: &u32| FIRST_SYMBOL + token % (task.vocabulary() as u32 - FIRST_SYMBOL);
        for (place, token) in example.input.iter_mut().zip(&tokens) {
            *place = known(token);
        }
        is_right(&task, &example);
        example.input.truncate(cut.index(example.input.len()));
        prop_assert!(!is_right(&task, &example));
        example.input = tokens;
        prop_assert!(!is_right(&task, &example));
        example.steps.clear();
        prop_assert!(!is_right(&task, &example));
    }
}

#[test]
fn elements_are_in_lexicographic_order_and_the_identity_comes_first() {
    let names = |settings: &[&str]| {
        let task = task("word", settings);
        (FIRST_SYMBOL..task.vocabulary() as u32).map(|id| task.token_name(id)).collect::<Vec<_>>()
    };
    assert_eq!(names(&["group=s3"]), ["012", "021", "102", "120", "201", "210"]);
    assert_eq!(names(&["group=a4"])[..4], ["0123", "0231", "0312", "1032"]);
    for (group, order) in [("z2", 2), ("zm", 60), ("s4", 24), ("a4", 12), ("a5", 60), ("s5", 120)] {
        let names = names(&[&format!("group={group}")]);
        assert_eq!(names.len(), order);
        assert!(group.starts_with('z') || names.is_sorted());
    }
}

#[test]
fn restricted_factors_are_few_and_still_reach_the_whole_group() {
    for (group, count, order) in [("s5", 4, 120), ("a5", 2, 60), ("s3", 2, 6), ("zm", 2, 60)] {
        let (group, count_setting) = (format!("group={group}"), format!("generators={count}"));
        let task = task("word", &[&group, &count_setting, "length=300"]);
        let mut factors = HashSet::new();
        let mut reached = HashSet::new();
        for index in 0..400 {
            let example = train(&task, index, 300);
            factors.extend(example.input);
            reached.extend(example.steps.concat());
        }
        assert_eq!((factors.len(), reached.len()), (count, order), "{group}");
    }
}

#[test]
fn pointers_form_one_cycle() {
    let task = task("pointer", &["nodes=9", "hops=8"]);
    for index in 0..200 {
        let example = train(&task, index, 8);
        let seen: HashSet<_> =
            example.steps.concat().into_iter().chain([example.input[9]]).collect();
        assert_eq!(seen.len(), 9);
    }
}

#[test]
fn the_same_arguments_give_the_same_example_and_others_another() {
    for task in all_tasks() {
        let length = task.chain_length();
        let draw = |seed, index| task.example(TaskSplit::Test, seed, index, length).unwrap();
        assert_eq!(draw(3, 4), draw(3, 4));
        assert_ne!(draw(3, 4).input, draw(3, 5).input);
        assert_ne!(draw(3, 4).input, draw(4, 4).input);
    }
    // Mixed lengths are mixed problems, though pointers look the same at every length.
    let pointer = task("pointer", &[]);
    assert_ne!(train(&pointer, 0, 1).input, train(&pointer, 0, 2).input);
}

#[test]
fn examples_did_not_change() {
    // What the first version drew. Another value here makes old results impossible to repeat.
    let example = |name| {
        let task = task(name, &[]);
        let named = task.named(&train(&task, 0, 2));
        format!("{} = {}", named.input.join(" "), named.answer.join(" "))
    };
    assert_eq!(example("word"), "201 102 = 021");
    assert_eq!(example("pointer"), "4 10 0 7 11 15 2 9 1 8 14 3 13 6 5 12 8 = 10");
    assert_eq!(example("table"), "3 1 3 = 5");
    assert_eq!(example("path-star"), "1 7 10 5 1 10 7 4 1 5 = 10 5");
}

#[test]
fn settings_that_make_no_task_are_refused() {
    let refused = |name: &str, settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let made = TaskConfig::named(name, &settings).and_then(factorexe::data::tasks::Task::new);
        made.expect_err(&format!("{name} {settings:?}")).to_string()
    };
    let message = refused("wrod", &[]);
    assert!(message.contains("`word`, `pointer`") && message.contains("`path-star`"), "{message}");
    let message = refused("revcirc", &["wire=3"]);
    assert!(message.contains("`wires`, `gates`, `chains`"), "{message}");
    for (name, settings) in [
        ("word", &["length"][..]),
        ("word", &["length=0"]),
        ("word", &["length=-1"]),
        ("word", &["length=99999999999999999999999"]),
        ("word", &["length=3", "length=4"]),
        ("word", &["name=pointer"]),
        ("word", &["length=3\nmodulus=4"]),
        ("word", &["modulus=5"]),
        ("word", &["group=zm", "modulus=1"]),
        ("word", &["group=s7"]),
        ("word", &["generators=1"]),
        ("word", &["generators=7"]),
        ("pointer", &["nodes=65", "pointers=edges"]),
        ("pointer", &["hops=0"]),
        ("pointer", &["nodes=1"]),
        ("revcirc", &["wires=2"]),
        ("addition", &["digits=31"]),
        ("multiplication", &["digits=20"]),
        ("table", &["keys=4096", "length=4096"]),
        ("path-star", &["arms=0"]),
        ("path-star", &["chains=other"]),
    ] {
        refused(name, settings);
    }
}
