//! Every shipped recipe of one run, on the shipped teacher.

use super::compare::Trajectory;
use super::program::{Bench, recipe};

/// Name and changes. SmolLM2 is too large to be shipped: its recipes factor the teacher of twelve
/// layers, with a shape that fits into it.
const RECIPES: &[(&str, &[&str])] = &[
    ("tiny", &[]),
    ("tiny-any-depth", &[]),
    ("smollm2-135m", SMALLER),
    ("smollm2-135m-any-depth", SMALLER),
    ("smollm2-135m-gpu", SMALLER),
];

const SMALLER: &[&str] = &[
    "teacher.source=sotu-12l",
    "student.prelude_layers=1",
    "student.core_layers=4",
    "student.coda_layers=2",
    // No more than one step in two is a warmup.
    "train.schedule.warmup_steps=10",
];

/// The teacher's own recipe, narrow, on the vocabulary that is shipped.
const TEACHER: &[&str] = &[
    "model.layers=4",
    "model.width=64",
    "model.mlp_width=176",
    "tokenizer={ kind = \"file\", path = \"sotu-12l/tokenizer.json\" }",
    "train.schedule.warmup_steps=10",
];

pub fn trajectories(bench: &Bench) -> Vec<Trajectory> {
    let students = RECIPES.iter().map(|(name, set)| {
        let set = [&["student.calibration_tokens=256"], *set].concat();
        bench.train(name, "distill", &recipe(name), &set)
    });
    let teacher = bench.train("tiny-teacher", "pretrain", &recipe("tiny-teacher"), TEACHER);
    students.chain([teacher]).collect()
}
