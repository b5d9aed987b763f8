//! Are examples of tasks exact, apart in their splits, and shown as the views say?

mod control;
mod exact;
mod splits;
mod views;

use factorexe::data::tasks::{Example, Task, TaskConfig, TaskSplit, check};

/// Every kind of task at its defaults, and the groups and sizes that differ in kind.
const TASKS: &[(&str, &[&str])] = &[
    ("word", &[]),
    ("word", &["group=z2"]),
    ("word", &["group=zm", "modulus=7"]),
    ("word", &["group=a4"]),
    ("word", &["group=a5", "generators=2"]),
    ("word", &["group=s4"]),
    ("word", &["group=s5", "generators=4", "length=33"]),
    ("pointer", &[]),
    ("pointer", &["nodes=5", "hops=4"]),
    ("pointer", &["nodes=6", "hops=9", "pointers=edges"]),
    ("revcirc", &[]),
    ("revcirc", &["wires=3", "gates=20"]),
    ("addition", &[]),
    ("addition", &["operands=32", "digits=3"]),
    ("addition", &["operands=2", "digits=30"]),
    ("multiplication", &[]),
    ("multiplication", &["digits=19"]),
    ("table", &[]),
    ("table", &["keys=3", "table_seed=9"]),
    ("path-star", &[]),
    ("path-star", &["arms=5", "length=7"]),
];

fn task(name: &str, settings: &[&str]) -> Task {
    let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
    Task::new(TaskConfig::named(name, &settings).unwrap()).unwrap()
}

fn all_tasks() -> impl Iterator<Item = Task> {
    TASKS.iter().map(|(name, settings)| task(name, settings))
}

/// An example in the names of its tokens, to be written by hand: blanks between tokens.
fn example(task: &Task, input: &str, steps: &[&str], answer: &str) -> Example {
    let tokens = |names: &str| -> Vec<u32> {
        let id = |name| (0..task.vocabulary() as u32).find(|id| task.token_name(*id) == name);
        names.split(' ').map(|name| id(name).unwrap()).collect()
    };
    Example {
        input: tokens(input),
        steps: steps.iter().map(|state| tokens(state)).collect(),
        answer: tokens(answer),
    }
}

fn train(task: &Task, index: u64, length: usize) -> Example {
    task.example(TaskSplit::Train, 1, index, length).unwrap()
}

fn is_right(task: &Task, example: &Example) -> bool {
    check(task, example).is_ok()
}

/// A length whose inputs are enough for every split.
fn long_enough(task: &Task, wanted: usize) -> usize {
    let is_enough = |length: &usize| task.distinct_inputs(*length).is_none_or(|count| count >= 100);
    (wanted..=task.chain_length()).find(is_enough).unwrap()
}
