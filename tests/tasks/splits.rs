//! Is no input in two splits?

use std::collections::HashSet;

use factorexe::data::tasks::{Task, TaskSplit};

use super::{all_tasks, task};

const SPLITS: [TaskSplit; 3] = [TaskSplit::Train, TaskSplit::Validation, TaskSplit::Test];

fn inputs(task: &Task, split: TaskSplit, length: usize, count: u64) -> HashSet<Vec<u32>> {
    let seeds = 0..4;
    let draw = |seed, index| task.example(split, seed, index, length).unwrap().input;
    seeds
        .flat_map(|seed| (0..count / 4).map(move |index| (seed, index)))
        .map(|(seed, index)| draw(seed, index))
        .collect()
}

fn assert_apart(task: &Task, length: usize, count: u64) -> [HashSet<Vec<u32>>; 3] {
    let found = SPLITS.map(|split| inputs(task, split, length, count));
    assert!(found[0].is_disjoint(&found[1]));
    assert!(found[0].is_disjoint(&found[2]));
    assert!(found[1].is_disjoint(&found[2]));
    found
}

#[test]
fn splits_share_no_input_whatever_the_seeds() {
    for task in all_tasks() {
        assert_apart(&task, task.chain_length(), 400);
    }
}

#[test]
fn a_small_space_is_shared_out_completely() {
    let found = assert_apart(&task("word", &[]), 4, 12_000);
    // 6^4 words; 12,000 draws miss one of about 1,000 train words with e^-12 each.
    assert_eq!(found.iter().map(HashSet::len).sum::<usize>(), 1296);
    // Shares of 0.8, 0.1, 0.1 to within four standard deviations, sqrt(1296 * 0.1 * 0.9) = 10.8.
    assert!((94..=173).contains(&found[1].len()), "{}", found[1].len());
    assert!((94..=173).contains(&found[2].len()), "{}", found[2].len());
}

#[test]
fn the_split_depends_on_the_input_alone() {
    for split in SPLITS {
        for chains in ["chains=exact", "chains=shuffled"] {
            let task = task("word", &[chains]);
            for index in 0..200 {
                let example = task.example(split, 5, index, 6).unwrap();
                assert_eq!(TaskSplit::of(&example.input), split);
            }
        }
    }
}

#[test]
fn a_split_without_inputs_is_an_error_that_says_what_to_do() {
    let task = task("word", &["group=z2"]);
    let errors: Vec<String> = SPLITS
        .iter()
        .filter_map(|split| task.example(*split, 0, 0, 1).err())
        .map(|error| error.to_string())
        .collect();
    // Two inputs cannot fill three splits.
    assert!(!errors.is_empty());
    for error in errors {
        assert!(error.contains("2 inputs") && error.contains("hint: leave out"), "{error}");
    }
}

#[test]
fn a_chain_of_no_steps_or_too_many_is_refused() {
    for task in all_tasks() {
        for length in [0, task.chain_length() + 1, usize::MAX] {
            let error = task.example(TaskSplit::Train, 0, 0, length).unwrap_err();
            assert!(error.message().contains("expected 1 to"));
        }
    }
}

#[test]
fn inputs_are_counted_exactly_where_they_can_be_listed() {
    for (name, settings, length, expected) in [
        ("word", &["generators=2"][..], 5, 32),
        ("pointer", &["nodes=4", "hops=2"], 1, 24),
        ("revcirc", &["wires=3"], 1, 96),
        ("addition", &["digits=1"], 2, 100),
        ("multiplication", &["digits=2"], 1, 1000),
        ("table", &["keys=3"], 3, 81),
        // Two edges out of three nodes, in two orders, to two goals.
        ("path-star", &["length=1"], 1, 12),
    ] {
        let task = task(name, settings);
        assert_eq!(task.distinct_inputs(length), Some(expected));
        let found: usize =
            SPLITS.iter().map(|split| inputs_or_none(&task, *split, length).len()).sum();
        assert_eq!(found as u128, expected, "{name}");
    }
    // 10^38 still fits 128 bits, 10^39 does not.
    let digits = task("addition", &["operands=39", "digits=1"]);
    assert_eq!(digits.distinct_inputs(38), Some(10_u128.pow(38)));
    assert_eq!(digits.distinct_inputs(39), None);
}

/// A tenth of a dozen inputs may be none.
fn inputs_or_none(task: &Task, split: TaskSplit, length: usize) -> HashSet<Vec<u32>> {
    (0..8000)
        .map_while(|index| task.example(split, 0, index, length).ok())
        .map(|e| e.input)
        .collect()
}
