//! The rules of the house: imports only fall, no files import each other in a circle, and a file is
//! short enough to be read at once.

mod circles;
mod house;
mod rules;
mod source;

use circles::circles;
use house::House;
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
    ("prelude", 9),
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
    ("context", 1),
    ("error", 0),
];

/// Past this a file has a second idea in it (lines).
const SITTING: usize = 300;
/// Past this it does not land (lines).
const LONGEST: usize = 400;

/// Kernels without a backward pass: they drop the gradient without an error.
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

/// The files that may name such kernels, each its own, in a module called `inference`.
const INFERENCE_KERNELS: &[(&str, &[&str])] = &[
    ("src/nn/attention/composed.rs", &["candle_nn::ops::softmax_last_dim"]),
    ("src/nn/norm.rs", &["candle_nn::ops::layer_norm", "candle_nn::ops::rms_norm"]),
    ("src/nn/rope.rs", &["candle_nn::rotary_emb::rope_thd"]),
];

/// The only uses of `unsafe`, each with its reason.
const UNSAFE_FILES: &[&str] = &[
    "src/cli/threads.rs",   // tells candle how many threads to start
    "src/disk/mmap.rs",     // maps checkpoints and what is cached into memory
    "src/kernels/gemm.rs",  // hands slices to the matrix product as pointers
    "src/kernels/loops.rs", // new memory is written once, not zeroed first
    "src/main.rs",          // tells the allocator to keep its pages
];

/// Lints that may be allowed in some places only: (lint, how the paths of the places begin).
const LINT_EXCEPTIONS: &[(&str, &[&str])] = &[
    ("print_stdout", &["src/cli/"]),
    ("print_stderr", &["src/cli/"]),
    ("disallowed_methods", &["src/nn/attention/composed.rs", "src/nn/norm.rs", "src/nn/rope.rs"]),
    ("disallowed_types", &[]),
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
    let sources = crate_sources();
    assert_none(&rising_imports(&sources, &House::new(&sources)));
}

#[test]
fn an_import_that_rises_is_named_with_its_line() {
    let tree = [
        Source::new(
            "src/lib.rs",
            "pub mod hub;\npub use error::{Error, Result};\npub use hub::{Checkpoint, Adapter};",
        ),
        Source::new("src/error.rs", "use super::context::Quiet;\npub enum Error {}"),
        Source::new("src/context.rs", "use crate::Error;\npub struct Quiet;"),
        Source::new("src/disk.rs", "use crate::context::Quiet;"),
        Source::new(
            "src/nn/norm.rs",
            "//! [`crate::cli`]\nuse crate::{\n    Error,\n    model::{Layer, Deep},\n};",
        ),
        Source::new("src/model/mod.rs", "pub mod deep;\npub use deep::Deep;\npub struct Layer;"),
        Source::new(
            "src/model/deep.rs",
            "use crate::{Adapter, nn::norm};\npub struct Deep;\nfn f() { crate::context::Quiet }",
        ),
        Source::new(
            "src/hub/mod.rs",
            "mod load;\npub use load::Checkpoint;\npub use crate::eval::Adapter;",
        ),
        Source::new(
            "src/hub/load.rs",
            "fn f() -> super::super::eval::Adapter {}\npub struct Checkpoint;",
        ),
        Source::new("src/eval.rs", "pub struct Adapter;"),
        Source::new("src/attic.rs", ""),
    ];
    let expected = [
        "src/attic.rs: its room has no floor",
        "src/disk.rs:1: `disk` (floor 1) takes `Quiet` of `context` (floor 1)",
        "src/error.rs:1: `error` (floor 0) takes `Quiet` of `context` (floor 1)",
        "src/hub/load.rs:1: `hub` (floor 5) takes `Adapter` of `eval` (floor 6)",
        "src/hub/mod.rs:3: `hub` (floor 5) takes `Adapter` of `eval` (floor 6)",
        "src/model/deep.rs:1: `model` (floor 4) takes `Adapter` of `eval` (floor 6)",
        "src/nn/norm.rs:4: `nn` (floor 3) takes `Deep` of `model` (floor 4)",
        "src/nn/norm.rs:4: `nn` (floor 3) takes `Layer` of `model` (floor 4)",
    ];
    assert_eq!(rising_imports(&tree, &House::new(&tree)), expected);
}

#[test]
fn every_path_within_the_crate_leads_to_a_file() {
    assert_none(House::new(&crate_sources()).lost());
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    assert_none(&circles(&House::new(&crate_sources())));
}

#[test]
fn a_circle_is_named_with_the_imports_that_tie_it() {
    let tree = [
        Source::new("src/nn/mod.rs", "mod a;\nmod b;\npub use a::A;\npub use b::{B, b};"),
        // Through a folder, by a path within code, by a glob, by a module.
        Source::new("src/nn/a.rs", "use super::{B, b};\npub struct A;\nfn f() { b::b() }"),
        Source::new("src/nn/b.rs", "pub struct B;\npub fn b() -> crate::data::c::C {}"),
        Source::new("src/data/mod.rs", "pub mod c;"),
        Source::new(
            "src/data/c.rs",
            "pub struct C;\nmod inner { use crate::nn::*; fn f(a: A) {} }",
        ),
        Source::new("src/fit/mod.rs", "mod d;\nuse d::D;\npub struct Own;"),
        Source::new("src/fit/d.rs", "use super::Own;\npub struct D(Own);"),
        Source::new("src/hub/mod.rs", "mod e;\npub use e::E;\n#[cfg(test)]\nmod made_up;"),
        Source::new("src/hub/made_up.rs", "use super::E;\npub struct M(E);"),
        Source::new(
            "src/hub/e.rs",
            "use super::f;\nuse crate::nn::A;\npub struct E(f::F);\n\
             #[cfg(test)]\nmod tests { use crate::hub::made_up::M; }",
        ),
        Source::new("src/hub/f.rs", "pub struct F;\npub use crate::nn::B;"),
    ];
    let expected = [
        "a circle of 3 files:\n  \
         src/data/c.rs:2 -> src/nn/a.rs: A\n  \
         src/nn/a.rs:1 -> src/nn/b.rs: B, b\n  \
         src/nn/b.rs:2 -> src/data/c.rs: C",
        "a circle of 2 files:\n  \
         src/fit/d.rs:1 -> src/fit/mod.rs: Own\n  \
         src/fit/mod.rs:2 -> src/fit/d.rs: D",
    ];
    assert_eq!(circles(&House::new(&tree)), expected);
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
fn kernels_that_cut_the_gradient_are_named_where_the_list_says() {
    assert_none(&cut_gradients(&crate_sources(), INFERENCE_KERNELS));
}

#[test]
fn a_kernel_that_cuts_the_gradient_is_found_behind_any_import() {
    for text in [
        "fn f() { let y = candle_nn::ops::rms_norm(&x); }",
        "fn f() { vec![candle_nn::ops::rms_norm(&x)] }",
        "use candle_nn::{VarMap, ops::{silu, sdpa}};",
        "use candle_nn::ops;",
        "use candle_nn::ops::*;",
        "use candle_nn as layers;",
        "use ::candle_nn::RmsNorm;",
        "fn f() { x.apply_op1_no_bwd(&op) }",
    ] {
        assert_eq!(cut_gradients(&[Source::new("src/model/a.rs", text)], &[]).len(), 1, "{text}");
    }
    let good = "use candle_nn::{Module, ops::softmax};\nfn f() { ops::rms_norm(&x); candle_nn::ops::silu(&x) }";
    assert_none(&cut_gradients(&[Source::new("src/model/a.rs", good)], &[]));
}

#[test]
fn a_listed_kernel_that_cuts_the_gradient_stays_in_its_module() {
    let listed: &[(&str, &[&str])] =
        &[("src/nn/a.rs", &["candle_nn::ops::rms_norm", "candle_nn::ops::softmax_last_dim"])];
    let complaints = |text: &str| cut_gradients(&[Source::new("src/nn/a.rs", text)], listed);
    let both = "candle_nn::ops::rms_norm(&x); candle_nn::ops::softmax_last_dim(&x)";
    assert_none(&complaints(&format!("mod inference {{ fn f() {{ {both} }} }}")));
    // Each path, and the second as a method too.
    assert_eq!(complaints(&format!("fn f() {{ {both} }}")).len(), 3 + listed[0].1.len());
    let other = "mod inference { fn f() { candle_nn::ops::sdpa(&x) } }";
    assert_eq!(complaints(other).len(), 1 + listed[0].1.len());
}

#[test]
fn unsafe_is_where_the_list_says() {
    assert_none(&unlisted_unsafe(&crate_sources(), UNSAFE_FILES));
    let source = || [Source::new("src/a.rs", "// unsafe\n#![deny(unsafe_code)]\nunsafe fn f() {}")];
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
