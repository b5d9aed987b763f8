//! Timings: the same work however it is computed, and what is printed of it.

use serde_json::Value;

use super::world::{Ran, World};

/// Sums of f32 in two orders, over three steps.
const F32_SUMS: f64 = 1e-5;

const TINY: &[&str] = &[
    "bench", "step", "--width", "16", "--ffn", "24", "--core", "2", "--heads", "2", "--batch", "2",
    "--tokens", "8", "--vocab", "37", "--steps", "1",
];

fn step(more: &[&str]) -> Ran {
    World::shared().run(&[TINY, more].concat())
}

fn json(more: &[&str]) -> Value {
    step(&[more, &["--json"]].concat()).json()
}

#[test]
fn a_step_has_the_same_loss_however_its_graph_is_kept_and_computed() {
    // Past 8 the given states repeat, past 16 a chain is cut into pieces.
    for repetitions in ["3", "20"] {
        let loss = |more: &[&str]| {
            json(&[&["--repetitions", repetitions], more].concat())["loss"].as_f64().unwrap()
        };
        let kept = loss(&[]);
        assert!(kept.is_finite() && kept > 0.0);
        for other in [&["--recompute"][..], &["--reference"], &["--recompute", "--reference"]] {
            let other_loss = loss(other);
            assert!((other_loss - kept).abs() < F32_SUMS * kept, "{other:?}: {other_loss}, {kept}");
        }
    }
}

#[test]
fn a_measurement_says_what_was_measured_and_what_came_out() {
    let found = json(&["--recompute", "--threads", "1"]);
    for (key, value) in
        [("width", 16), ("ffn", 24), ("core", 2), ("repetitions", 4), ("heads", 2), ("batch", 2)]
    {
        assert_eq!(found[key], value, "{key}");
    }
    for (key, value) in [("tokens", 8), ("vocab", 37), ("steps", 1), ("threads", 1)] {
        assert_eq!(found[key], value, "{key}");
    }
    assert_eq!(found["graph"], "recomputed");
    for key in ["wall_s", "tokens_per_s", "gflop", "loss"] {
        assert!(found[key].as_f64().unwrap() > 0.0, "{key}");
    }
    for key in ["cpu_s", "peak_rss_mib"] {
        let number = found.get(key).unwrap_or_else(|| panic!("no {key}"));
        assert!(number.is_null() || number.as_f64().unwrap() >= 0.0, "{key}");
    }
    // By hand: 16 tokens; a layer of 4 * 16^2 + 3 * 16 * 24 numbers, 4 * 16 * 4.5 for attention,
    // 8 layers, 16 * 37 of the head; 3 forward passes, and one more without the head.
    let (layers, head) = (8.0 * (2.0 * 2176.0 + 288.0), 2.0 * 16.0 * 37.0);
    let expected = 16.0 * (4.0 * layers + 3.0 * head) / 1e9;
    assert!((found["gflop"].as_f64().unwrap() / expected - 1.0).abs() < 1e-9);
    let rounds = &found["rounds"];
    assert_eq!((&rounds["timed"], &rounds["warm_up"]), (&1.into(), &2.into()));
    assert_eq!(rounds["mean_s"], found["wall_s"]);
    let table = step(&[]).good().stdout;
    for part in ["median", "mean ± deviation", "range", "1 after 2 of warm-up", "tokens/s"] {
        assert!(table.contains(part), "`{part}` is not in:\n{table}");
    }
}

#[test]
fn a_forward_pass_and_a_product_are_timed() {
    let world = World::shared();
    let sizes = ["--batch", "2", "--tokens", "9", "--steps", "1", "--json"];
    let prefill = ["bench", "prefill", "--model", "runs/teacher"];
    let found = world.run(&[&prefill[..], &sizes[..]].concat()).json();
    assert_eq!((&found["batch"], &found["tokens"]), (&2.into(), &9.into()));
    assert!(found["tokens_per_s"].as_f64().unwrap() > 0.0);
    let peak = ["bench", "peak", "--width", "32", "--ffn", "48", "--vocab", "64", "--json"];
    let found = world.run(&peak).json();
    let shapes = found["shapes"].as_array().unwrap();
    assert_eq!(shapes.len(), 6);
    let best =
        shapes.iter().map(|shape| shape["gflop_per_s"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(found["gflop_per_s"], best);
}

#[test]
fn sizes_of_nothing_and_heads_that_do_not_fit_are_refused() {
    for name in
        ["width", "ffn", "core", "repetitions", "heads", "batch", "tokens", "vocab", "steps"]
    {
        let flag = format!("--{name}");
        let base = ["bench", "step", &flag, "0"];
        World::shared().run(&base).refused(&[&format!("--{name} is 0, expected 1 or more")]);
    }
    let of = |more: &[&str]| World::shared().run(&[&["bench", "step"], more].concat());
    of(&["--heads", "3"]).refused(&["a width of 256", "3 heads", "--width or --heads"]);
    of(&["--width", "6", "--heads", "2"]).refused(&["even width"]);
    of(&["--repetitions", "99999"]).refused(&["99999 repetitions"]);
    of(&["--tokens", "99999999999"]).refused(&["too large", "--tokens"]);
    of(&["--batch=-1"]).misused(&["--batch"]);
    let prefill = ["bench", "prefill", "--model", "runs/teacher"];
    World::shared().run(&[&prefill[..], &["--steps", "0"]].concat()).refused(&["--steps is 0"]);
    World::shared().run(&["bench", "prefill"]).misused(&["--model"]);
    World::shared().run(&["bench", "peak", "--width", "0"]).refused(&["2048 x 0"]);
    World::shared().run(&["bench", "peak", "--ffn", "8"]).misused(&["--width"]);
}
