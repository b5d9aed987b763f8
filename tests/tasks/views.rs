//! Does every view show what its name says, and ask for nothing that is given?

use factorexe::data::tasks::{
    ANS, EOS, Example, FILL, FIRST_SYMBOL, SEP, STEP, Sequence, Task, View, encode,
};
use proptest::prelude::*;

use super::{all_tasks, example, long_enough, task, train};

const __: u32 = factorexe::data::IGNORED;

/// 5, then 5 + 4 = 2, then 2 + 6 = 1 modulo 7, in ids that count from 8.
fn three_steps() -> (Task, Example) {
    let task = task("word", &["group=zm", "modulus=7"]);
    let example = example(&task, "5 4 6", &["5", "2", "1"], "1");
    (task, example)
}

fn only(view: View) -> Sequence {
    let (task, example) = three_steps();
    let [sequence] = encode(&task, &example, view).unwrap().try_into().unwrap();
    sequence
}

fn sequence(inputs: &[u32], targets: &[&[u32]]) -> Sequence {
    Sequence { inputs: inputs.to_vec(), targets: targets.iter().map(|row| row.to_vec()).collect() }
}

#[test]
fn next_token_views_ask_for_what_follows_the_given() {
    assert_eq!(only(View::Direct), sequence(&[13, 12, 14, SEP, 9], &[&[__, __, __, 9, EOS]]));
    assert_eq!(
        only(View::Chain),
        sequence(
            &[13, 12, 14, SEP, 13, STEP, 10, STEP, 9, ANS, 9],
            &[&[__, __, __, 13, STEP, 10, STEP, 9, ANS, 9, EOS]],
        )
    );
    assert_eq!(
        only(View::ChainAt { steps: 2 }),
        sequence(
            &[13, 12, 14, SEP, 13, STEP, 9, ANS, 9],
            &[&[__, __, __, 13, STEP, 9, ANS, 9, EOS]],
        )
    );
    assert_eq!(
        only(View::ChainAt { steps: 0 }),
        sequence(&[13, 12, 14, SEP, ANS, 9], &[&[__, __, __, ANS, 9, EOS]])
    );
    assert_eq!(
        only(View::Filler { tokens: 2 }),
        sequence(&[13, 12, 14, SEP, FILL, FILL, ANS, 9], &[&[__, __, __, __, __, __, 9, EOS]],)
    );
    assert_eq!(only(View::ChainAt { steps: u16::MAX }), only(View::Chain));
}

#[test]
fn slots_are_asked_once_a_repetition_or_only_at_the_end() {
    // The slot holds the state before the first step: the identity, element 0.
    let inputs = &[13, 12, 14, SEP, FIRST_SYMBOL];
    let row = |state| [__, __, __, __, state];
    assert_eq!(only(View::Loop), sequence(inputs, &[&row(13), &row(10), &row(9)]));
    assert_eq!(only(View::Final), sequence(inputs, &[&row(9)]));
}

#[test]
fn kept_steps_are_evenly_spaced_and_rounded() {
    let task = task("addition", &["operands=10", "digits=1"]);
    let example = train(&task, 0, 10);
    // round(linspace(0, 9, k)) by numpy, which has no halves in these.
    for (steps, kept) in [(1, &[0][..]), (2, &[0, 9]), (4, &[0, 3, 6, 9]), (5, &[0, 2, 5, 7, 9])] {
        let sequences = encode(&task, &example, View::ChainAt { steps }).unwrap();
        let kept: Vec<Vec<u32>> = kept.iter().map(|step| example.steps[*step].clone()).collect();
        let begin = example.input.len() + 1;
        let shown = &sequences[0].inputs[begin..];
        assert_eq!(shown[..shown.len() - 1 - task.width()], kept.join(&STEP));
    }
}

#[test]
fn a_markov_view_holds_what_decides_the_step() {
    let shown = |name, settings: &[&str], input, steps: &[&str], answer, step: usize| {
        let task = task(name, settings);
        let example = example(&task, input, steps, answer);
        let sequence = encode(&task, &example, View::Markov).unwrap().swap_remove(step);
        assert_eq!(
            sequence.targets[0][sequence.inputs.len() - task.width()..],
            example.steps[step]
        );
        let names = sequence.inputs.iter().map(|token| task.token_name(*token));
        names.collect::<Vec<_>>().join(" ")
    };
    let word = |step| shown("word", &[], "102 120", &["102", "021"], "021", step);
    assert_eq!(word(0), "012 102 SEP 012");
    assert_eq!(word(1), "102 120 SEP 102");
    let pointer = shown("pointer", &["nodes=4", "hops=2"], "2 3 1 0 3", &["0", "2"], "2", 1);
    assert_eq!(pointer, "2 3 1 0 0 SEP 0");
    let circuit =
        shown("revcirc", &["wires=3"], "1 1 0 not:1 cnot:2>0", &["1 0 0", "1 0 0"], "1 0 0", 1);
    assert_eq!(circuit, "1 0 0 cnot:2>0 SEP 1 0 0");
    let two = ["operands=2", "digits=2"];
    assert_eq!(
        shown("addition", &two, "7 5 8 6", &["7 5 0", "5 2 1"], "5 2 1", 1),
        "7 5 0 8 6 SEP 7 5 0"
    );
    let steps = ["6 7 7 0", "6 5 6 4"];
    assert_eq!(
        shown("multiplication", &["digits=2"], "7 9 8 4", &steps, "6 5 6 4", 1),
        "6 7 7 0 7 9 0 4 SEP 6 7 7 0"
    );
    assert_eq!(shown("table", &["keys=3"], "0 1 2", &["2", "1"], "1", 1), "step:2 2 2 SEP 2");
    let star = ["arms=2", "length=2"];
    assert_eq!(
        shown("path-star", &star, "4 2 3 1 1 0 3 4 3 2", &["4", "2"], "4 2", 1),
        "4 2 3 1 1 0 3 4 4 2 SEP 4"
    );
}

#[test]
fn a_markov_view_never_asks_two_things_after_the_same_tokens() {
    for task in all_tasks() {
        let mut asked = std::collections::HashMap::new();
        for index in 0..300 {
            let example = train(&task, index, task.chain_length());
            for Sequence { inputs, targets } in encode(&task, &example, View::Markov).unwrap() {
                assert_eq!(*asked.entry(inputs).or_insert_with(|| targets.clone()), targets);
            }
        }
    }
}

#[test]
fn views_are_written_as_recipes_have_them() {
    for (view, json) in [
        (View::Direct, "\"direct\""),
        (View::ChainAt { steps: 4 }, "{\"chain-at\":{\"steps\":4}}"),
        (View::Filler { tokens: 9 }, "{\"filler\":{\"tokens\":9}}"),
        (View::Loop, "\"loop\""),
    ] {
        assert_eq!(serde_json::to_string(&view).unwrap(), json);
        assert_eq!(serde_json::from_str::<View>(json).unwrap(), view);
    }
    assert!(serde_json::from_str::<View>("{\"filler\":{\"tokens\":9,\"steps\":1}}").is_err());
}

fn any_view() -> impl Strategy<Value = View> {
    prop_oneof![
        Just(View::Direct),
        Just(View::Chain),
        (0..40_u16).prop_map(|steps| View::ChainAt { steps }),
        (0..40_u16).prop_map(|tokens| View::Filler { tokens }),
        Just(View::Markov),
        Just(View::Loop),
        Just(View::Final),
    ]
}

proptest! {
    #[test]
    fn every_row_is_aligned_and_ends_in_something_asked(
        which in 0..super::TASKS.len(), index in 0..1000_u64, view in any_view(),
    ) {
        let task = task(super::TASKS[which].0, super::TASKS[which].1);
        let length = long_enough(&task, 1 + index as usize % task.chain_length());
        let example = train(&task, index, length);
        let sequences = encode(&task, &example, view).unwrap();
        prop_assert_eq!(sequences.len(), if view == View::Markov { length } else { 1 });
        for Sequence { inputs, targets } in sequences {
            prop_assert_eq!(targets.len(), if view == View::Loop { length } else { 1 });
            prop_assert!(inputs.iter().all(|token| (*token as usize) < task.vocabulary()));
            for row in targets {
                prop_assert_eq!(row.len(), inputs.len());
                prop_assert!(row.last() != Some(&__));
                let given = inputs.iter().position(|token| *token == SEP).unwrap();
                prop_assert!(row[..given].iter().all(|target| *target == __));
                prop_assert!(!row.contains(&FILL));
            }
        }
    }

    #[test]
    fn an_example_of_another_task_is_refused_by_every_view(view in any_view()) {
        let (task, mut example) = three_steps();
        example.steps[1] = vec![FIRST_SYMBOL + 7];
        prop_assert!(encode(&task, &example, view).is_err());
        example.steps[1] = vec![];
        prop_assert!(encode(&task, &example, view).is_err());
        example.steps.clear();
        prop_assert!(encode(&task, &example, view).is_err());
    }
}
