//! Every objective, and every part a student can have, each as a change to one small recipe.

use super::compare::Trajectory;
use super::program::{Bench, recipe};

/// What each case is a change to: `tiny.toml` with less text, free of the teacher's states after a
/// tenth of the steps.
const BASE: &[&str] = &[
    "data.window_tokens=16",
    "data.files=[\"text/sotu-validation.parquet\"]",
    "data.validation=0.0",
    "student.core_layers=2",
    "student.repetitions=3",
    "student.relaxation={ kind = \"lora\", rank = 2 }",
    "student.init=average",
    "student.calibration_tokens=128",
    "train.schedule.warmup_steps=4",
];

/// Free of them from the first step on.
const FREE: &[&str] = &["phases={ teacher_forced = 0.0, scheduled_until = 0.0 }"];

/// Name and changes.
const OBJECTIVES: &[(&str, &[&str])] = &[
    // Teacher forcing, scheduled sampling, free running.
    ("forced-layers", &["phases={ teacher_forced = 1.0, scheduled_until = 1.0 }"]),
    (
        "forced-repetitions",
        &["phases={ teacher_forced = 1.0, scheduled_until = 1.0, force = \"repetition\" }"],
    ),
    ("mixed", &["phases={ teacher_forced = 0.0, scheduled_until = 1.0 }"]),
    ("free", FREE),
    ("forced-then-free", &[]),
    // Which states are compared, and how.
    ("hidden-off", &["loss.hidden.weight=0.0", FREE[0]]),
    ("align-uniform", &["loss.hidden.alignment=uniform"]),
    ("align-monotone", &["loss.hidden.alignment=monotone"]),
    ("repetition-interpolated", &["loss.hidden.every=repetition"]),
    ("repetition-uniform", &["loss.hidden.every=repetition", "loss.hidden.alignment=uniform"]),
    ("repetition-monotone", &["loss.hidden.every=repetition", "loss.hidden.alignment=monotone"]),
    ("hidden-cosine-raw", &["loss.hidden.cosine=0.5", "loss.hidden.scale=raw"]),
    ("hidden-all-tokens", &["loss.hidden.skip_tokens=0"]),
    // What the output is compared with.
    ("temperature", &["loss.temperature=2.0"]),
    ("cross-entropy", &["loss.cross_entropy=0.5", "loss.kl={ from = 1.0, to = 0.0 }"]),
    ("settle", &["loss.settle=0.3"]),
    // Readouts before the last repetition.
    ("exits-uniform", &["loss.early_exit={ weight = 0.5, draws = 1 }"]),
    (
        "exits-geometric",
        &["loss.early_exit={ weight = 0.5, draws = 2, prior = { kind = \"geometric\", p = 0.4 } }"],
    ),
    ("exits-imitate-layer", &["loss.early_exit={ weight = 0.5, imitate = \"layer\" }"]),
    ("exits-every-layer", &["loss.early_exit={ weight = 0.5, draws = 2, every = \"layer\" }"]),
    (
        "exits-layers-imitate-layers",
        &["loss.early_exit={ weight = 0.5, draws = 2, every = \"layer\", imitate = \"layer\" }"],
    ),
    // Gates that learn together with the student.
    ("ponder-both", &["loss.halting={ policy = \"ponder\" }"]),
    ("ponder-gate", &["loss.halting={ policy = \"ponder\", trains = \"gate\", prior = 0.3 }"]),
    ("exit-gate-both", &["loss.halting={ policy = \"exit-gate\" }"]),
    ("exit-gate-gate", &["loss.halting={ policy = \"exit-gate\", trains = \"gate\" }"]),
    ("act", &["loss.halting={ policy = \"act\", weight = 0.5, cost_weight = 0.05 }"]),
    (
        "ponder-random-depth",
        &[
            "loss.halting={ policy = \"ponder\" }",
            "depth.law={ kind = \"uniform\", least = 1, most = 4 }",
        ],
    ),
    // How often a step repeats the core.
    ("depth-uniform", &["depth.law={ kind = \"uniform\", least = 1, most = 5 }"]),
    ("depth-poisson", &["depth.law={ kind = \"poisson-lognormal\", sigma = 0.5, most = 6 }"]),
    ("depth-ramp", &["depth.ramp=0.6"]),
    (
        "depth-of-tokens",
        &["depth={ law = { kind = \"uniform\", least = 1, most = 5 }, sampled_per = \"token\" }"],
    ),
    (
        "depth-of-tokens-recomputed",
        &[
            "depth={ law = { kind = \"poisson-lognormal\", sigma = 0.5, most = 6 }, sampled_per = \"token\", recompute = \"always\" }",
        ],
    ),
    // Stored or recomputed activations, and truncated backpropagation.
    ("recompute-never", &["depth.recompute=never"]),
    ("recompute-always", &["depth.recompute=always"]),
    (
        "recompute-nested",
        &[
            "depth.recompute=always",
            "student.core_layers=1",
            "student.repetitions=18",
            "student.relaxation={ kind = \"none\" }",
        ],
    ),
    ("backprop-one", &["depth.backprop_repetitions=1"]),
    (
        "backprop-two-recomputed",
        &["depth.backprop_repetitions=2", "depth.recompute=always", "student.repetitions=5"],
    ),
    // The student.
    ("inject-additive", &["student.injection=additive"]),
    ("inject-diagonal", &["student.injection=diagonal"]),
    ("inject-gate", &["student.injection=gate"]),
    ("between-norm", &["student.between=norm"]),
    (
        "inject-and-norm-recomputed",
        &["student.injection=gate", "student.between=norm", "depth.recompute=always"],
    ),
    ("relax-none", &["student.relaxation={ kind = \"none\" }"]),
    ("relax-norms", &["student.relaxation={ kind = \"norms\" }"]),
    ("lora-zero", &["student.lora_init=zero"]),
    ("init-random", &["student.init=random"]),
    ("init-first", &["student.init=first"]),
    ("init-every-nth", &["student.init=every-nth"]),
    ("init-least-squares", &["student.init=least-squares"]),
    ("auto-layers", &["student.prelude_layers=auto", "student.coda_layers=auto"]),
    ("nothing-frozen", &["student.frozen=[]"]),
    ("narrow", &["student.width=64", "student.frozen=[]", FREE[0]]),
    (
        "narrow-cross-entropy",
        &[
            "student.width=64",
            "student.frozen=[]",
            "loss.cross_entropy=1.0",
            "loss.hidden.every=repetition",
            FREE[0],
        ],
    ),
    // The cache of teacher outputs.
    ("cache-bf16", &["teacher.cache={ states = \"bf16\", top_k = 16 }"]),
    ("cache-int8", &["teacher.cache={ states = \"int8\", top_k = 16 }"]),
    (
        "cache-f32-exits",
        &[
            "teacher.cache={ states = \"f32\", top_k = 8 }",
            "loss.early_exit={ weight = 0.5, imitate = \"layer\" }",
        ],
    ),
    // The trainer.
    ("accumulate-ema", &["train.accumulate=2", "train.ema=0.9"]),
    ("clip-decay", &["train.optimizer={ lr = 5e-3, weight_decay = 0.1, clip_norm = 0.05 }"]),
];

pub fn trajectories(bench: &Bench) -> Vec<Trajectory> {
    let tiny = recipe("tiny");
    let train =
        |(name, set): &(&str, &[&str])| bench.train(name, "distill", &tiny, &[BASE, *set].concat());
    OBJECTIVES.iter().map(train).collect()
}
