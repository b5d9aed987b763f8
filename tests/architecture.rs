//! Do imports only fall, and does every file keep the rules of the house?

mod rules;
mod source;

use rules::{
    cut_gradients, drawn_floors, misplaced_exceptions, rising_imports, silent_recipes, too_long,
    unlisted_unsafe,
};
use source::Source;

/// The floor of each room, as the first page of `src/lib.rs` draws them.
const FLOORS: &[(&str, u8)] = &[
    ("main", 12),
    ("cli", 11),
    ("study", 9),
    ("report", 9),
    ("run", 8),
    ("recipe", 7),
    ("bench", 7),
    ("eval", 6),
    ("generate", 6),
    ("distill", 5),
    ("pretrain", 5),
    ("hub", 5),
    ("decode", 5),
    ("model", 4),
    ("train", 4),
    ("losses", 4),
    ("nn", 3),
    ("autograd", 2),
    ("data", 2),
    ("kernels", 1),
    ("halting", 1),
    ("fit", 1),
    ("disk", 1),
    ("error", 0),
    ("observe", 0),
];

/// Past this a file has a second idea in it (lines).
const SITTING: usize = 300;
/// Past this it does not land (lines).
const LONGEST: usize = 400;

/// Kernels without a backward pass: what lies below them never learns, in silence.
const GRADIENT_CUTTERS: &[&str] = &[
    "candle_nn::LayerNorm",
    "candle_nn::RmsNorm",
    "candle_nn::attention",
    "candle_nn::cpu_flash_attention",
    "candle_nn::layer_norm",
    "candle_nn::layer_norm_no_bias",
    "candle_nn::moe",
    "candle_nn::ops::layer_norm",
    "candle_nn::ops::rms_norm",
    "candle_nn::ops::sdpa",
    "candle_nn::ops::softmax_last_dim",
    "candle_nn::rms_norm",
    "candle_nn::rotary_emb::rope",
    "candle_nn::rotary_emb::rope_i",
    "candle_nn::rotary_emb::rope_thd",
    "candle_transformers::models",
];
/// The same, as methods, wherever they are called.
const GRADIENT_CUTTING_METHODS: &[&str] =
    &["apply_op1_no_bwd", "apply_op2_no_bwd", "apply_op3_no_bwd", "softmax_last_dim"];

/// The only uses of `unsafe`, each with its reason.
const UNSAFE_FILES: &[&str] = &[
    "src/cli/threads.rs",   // tells candle how many threads to start
    "src/disk/mmap.rs",     // maps checkpoints and what is cached into memory
    "src/kernels/gemm.rs",  // hands slices to the matrix product as pointers
    "src/kernels/loops.rs", // new memory is written once, not zeroed first
    "src/main.rs",          // tells the allocator to keep its pages
];

/// Lints that may be allowed in one place only: (lint, how the path of that place begins).
const LINT_EXCEPTIONS: &[(&str, &str)] = &[
    ("print_stdout", "src/cli/"),
    ("print_stderr", "src/cli/"),
    ("disallowed_methods", "src/nn/ops"),
    ("disallowed_types", "src/nn/ops"),
];

fn crate_sources() -> Vec<Source> {
    let sources = Source::all_under("src", ".rs");
    assert!(sources.len() > 10, "only {} files found under src/", sources.len());
    sources
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_only_fall() {
    assert_none(&rising_imports(&crate_sources()));
}

#[test]
fn an_import_that_rises_is_named_with_its_line() {
    let tree = [
        Source::new(
            "src/lib.rs",
            "pub mod hub;\npub use error::{Error, Result};\npub use hub::Source;",
        ),
        Source::new("src/error.rs", "use super::observe::Quiet;\npub(crate) enum Error {}"),
        Source::new(
            "src/nn/ops.rs",
            "//! [`crate::cli`]\nuse crate::{\n    Result,\n    nn::a, model::Transformer,\n};",
        ),
        Source::new("src/model/mod.rs", "use crate::{Source, nn};\nfn f() { crate::observe::f() }"),
        Source::new(
            "src/hub/load.rs",
            "fn f() -> super::super::eval::E {}\nuse crate::data::Tokenizer;\nuse crate::*;",
        ),
        Source::new("src/attic.rs", ""),
    ];
    let expected = [
        "src/error.rs:1: `error` (floor 0) uses `observe` (floor 0)",
        "src/nn/ops.rs:4: `nn` (floor 3) uses `model` (floor 4)",
        "src/model/mod.rs:1: `model` (floor 4) uses `hub` (floor 5)",
        "src/hub/load.rs:3: `crate::*` is in no room",
        "src/hub/load.rs:1: `hub` (floor 5) uses `eval` (floor 6)",
        "src/attic.rs: the room `attic` has no floor",
    ];
    assert_eq!(rising_imports(&tree), expected);
}

#[test]
fn the_floors_are_those_drawn_on_the_first_page() {
    let lib = crate_sources().into_iter().find(|source| source.path == "src/lib.rs").unwrap();
    assert_eq!(drawn_floors(&lib.text), FLOORS);
}

#[test]
fn no_file_is_longer_than_a_sitting() {
    let sources = crate_sources();
    for source in sources.iter().filter(|source| source.text.lines().count() > SITTING) {
        println!("{}: over {SITTING} lines; is there a second idea in it?", source.path);
    }
    assert_none(&too_long(&sources));
    assert_eq!(too_long(&[Source::new("src/a.rs", &"\n".repeat(LONGEST + 1))]).len(), 1);
}

#[test]
fn only_nn_ops_names_kernels_that_cut_the_gradient() {
    assert_none(&cut_gradients(&crate_sources()));
}

#[test]
fn a_kernel_that_cuts_the_gradient_is_found_behind_any_import() {
    for text in [
        "let y = candle_nn::ops::rms_norm(&x);",
        "use candle_nn::{VarMap, ops::{silu, sdpa}};",
        "use candle_nn::ops;",
        "use candle_nn::ops::*;",
        "use candle_nn as layers;",
        "use ::candle_nn::RmsNorm;",
        "x.apply_op1_no_bwd(&op)",
    ] {
        assert_eq!(cut_gradients(&[Source::new("src/model/a.rs", text)]).len(), 1, "{text}");
        assert_none(&cut_gradients(&[Source::new("src/nn/ops.rs", text)]));
    }
    let good =
        "use candle_nn::{Module, ops::softmax};\nops::rms_norm(&x);\ncandle_nn::ops::silu(&x);";
    assert_none(&cut_gradients(&[Source::new("src/model/a.rs", good)]));
}

#[test]
fn unsafe_is_where_the_list_says() {
    assert_none(&unlisted_unsafe(&crate_sources(), UNSAFE_FILES));
    let source = || [Source::new("src/a.rs", "// unsafe\n#![deny(unsafe_code)]\nunsafe { map() }")];
    assert_eq!(unlisted_unsafe(&source(), &[]), ["src/a.rs:3: unsafe, unlisted"]);
    assert_none(&unlisted_unsafe(&source(), &["src/a.rs"]));
    assert_eq!(unlisted_unsafe(&[Source::new("src/a.rs", "")], &["src/a.rs"]).len(), 1);
}

#[test]
fn lints_are_allowed_where_the_house_says() {
    assert_none(&misplaced_exceptions(&crate_sources()));
    let text = "#![allow(clippy::print_stdout)]";
    assert_eq!(misplaced_exceptions(&[Source::new("src/hub/a.rs", text)]).len(), 1);
    assert_none(&misplaced_exceptions(&[Source::new("src/cli/a.rs", text)]));
}

#[test]
fn every_recipe_tells_its_purpose_its_cost_and_its_result() {
    assert_none(&silent_recipes(&Source::all_under("recipes", ".toml")));
    let good = "# Factor a teacher of 12 layers.\n# Cost: 2 min.  Result: KL 0.1.\nseed = 0";
    assert_none(&silent_recipes(&[Source::new("recipes/a.toml", good)]));
    let silent = "# Cost: 2 min.\nseed = 0\n# Result: none";
    assert_eq!(silent_recipes(&[Source::new("recipes/a.toml", silent)]).len(), 2);
}
