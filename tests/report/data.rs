//! What do the folders that are reported on hold?

use std::fs;
use std::path::Path;

use factorexe::report::{compose, html};
use resvg::usvg::roxmltree::{Document, Node};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Would run, or be fetched, if any of it became markup.
pub const HOSTILE: &str = "</pre></title><script>document.title='owned'</script><img src='http://elsewhere.invalid/x'>\"'&";

pub fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The page of a folder.
pub fn page(folder: &Path) -> String {
    html("page", &compose(folder).unwrap())
}

/// All elements of the body are closed, so a reader of XML reads it.
pub fn body(page: &str) -> &str {
    &page[page.find("<body>").unwrap()..page.find("</html>").unwrap()]
}

/// What a browser would show.
pub fn told(page: &str) -> String {
    let document = Document::parse(body(page)).unwrap();
    document.descendants().filter_map(|node| node.text()).collect::<Vec<_>>().join("\n")
}

/// The marks of the series of that name.
pub fn marks<'a>(document: &'a Document, series: &'a str) -> Vec<Node<'a, 'a>> {
    let nodes = document.descendants();
    nodes.filter(|node| node.attribute("data-series") == Some(series)).collect()
}

fn cell(depth: u32, width: u32, seed: u32) -> Value {
    json!({"task": "copy", "teacher": "12", "student": format!("d{depth}"), "depth_ratio": depth,
        "width_ratio": width, "seed": seed, "trained": "at-n", "field_of_the_future": [1]})
}

fn with(mut cell: Value, more: Value) -> Value {
    cell.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    cell
}

/// A sweep of which 17 points are done.
pub fn law() -> Value {
    let needed = |depth, width, low, high: Option<u32>| {
        with(cell(depth, width, 0), json!({"needed": {"low": low, "high": high}}))
    };
    let curve = |seed, accuracy: [f64; 2]| {
        let quality = json!({"teacher_accuracy": 0.9, "repetitions": [1, 2],
            "accuracy": accuracy, "agreement": [0.5, 0.6], "kl_nats": [0.5, null]});
        with(cell(2, 1, seed), quality)
    };
    let control = |name: &str, seed, accuracy| {
        with(cell(2, 1, seed), json!({"name": name, "accuracy": accuracy, "parameters": 1000}))
    };
    json!({
        "kind": "law", "name": HOSTILE, "command": "factorize law x", "machine": "two cores",
        "recipe": format!("seed = 1 # {HOSTILE}"), "points_done": 17, "points_total": 60,
        "failures": [{"point": {"depth": 8}, "error": "the loss was not finite"}],
        "target": "accuracy within 1 point of the teacher",
        "exponent": {"estimate": 1.25, "low": 1.0, "high": 1.5}, "width_exponent": null,
        "form": "power",
        "forms": [{"form": "power", "parameters": {"scale": 1.5}, "aicc": 10.5, "held_out": null},
            {"form": "linear", "parameters": {}, "aicc": 13.0, "held_out": 0.25}],
        "points": [needed(2, 1, 2, Some(4)), needed(4, 1, 4, Some(8)), needed(4, 2, 16, None)],
        "curves": [curve(0, [0.25, 0.5]), curve(1, [0.75, 0.5])],
        "controls": [control("untied", 0, 0.5), control("untied", 1, 0.7)],
        "baselines": [{"task": "copy", "chance": 0.125, "majority": 0.2}],
        "field_of_the_future": {"a": 1},
    })
}

/// Two laws, one of them with nothing measured yet.
pub fn scaling() -> Value {
    json!({"kind": "scaling", "name": "loops", "points_done": 2, "points_total": 2, "laws": [
        {"name": "depth", "question": "What is a repetition worth?", "x_label": "N",
            "y_label": "layers", "parameter": "exponent", "estimate": 0.46, "low": 0.4, "high": null,
            "alternatives": [{"form": "log", "aicc": 2.5, "parameters": {"a": 1.0}}],
            "points": [{"series": "shared", "x": 1, "y": 3}, {"series": "shared", "x": 8, "low": 4, "high": 9}]},
        {"name": "width", "points": [], "note": "not measured yet"}]})
}

/// One learner whose oracle stops later for longer chains.
pub fn exits() -> Value {
    let rule = |name: &str, stops: [f64; 2], correlation: Option<f64>| {
        json!({"name": name, "threshold": null, "mean_repetitions": 2.5, "right": 0.9,
            "changed": 0.125, "stops": stops, "rank_correlation": correlation})
    };
    let length = |length: u32, right: [f64; 2]| json!({"length": length, "right": right});
    json!({"kind": "exits", "name": HOSTILE, "points_done": 1, "points_total": 1, "learners": [
        {"task": HOSTILE, "told": "steps", "seeds": [0], "mean": {
            "repetitions": 2, "lengths": [length(2, [0.5, 1.0]), length(4, [0.25, 1.0])],
            "rules": [rule("all repetitions", [5.0, 5.0], None), rule("oracle", [1.5, 3.5], Some(0.75))]}}]})
}

/// A small `eval.json`.
pub fn evaluation() -> Value {
    let score = |repetitions: u32, perplexity: f64| {
        json!({"repetitions": repetitions, "perplexity": perplexity, "kl_nats": 0.5,
            "agreement": 0.75, "cosine": null, "flops_per_token": 2e6,
            "state_rms": 1.5, "step_ratio": 5.0 / perplexity, "jacobian_norm": 0.5,
            "perplexity_interval": {"low": perplexity - 1.0, "high": perplexity + 1.0}})
    };
    let cost = |blocks: u32| {
        let count = json!({"total": blocks + 100, "embedding": 100, "blocks": blocks});
        json!({"parameters": count, "effective_parameters": count, "tokens_per_s": 10.4})
    };
    json!({"name": "small", "teacher_source": "here", "training": {"steps": 3, "tokens": 96},
        "teacher": {"perplexity": 8.5}, "student": [score(1, 20.0), score(2, 10.0)],
        "trained_repetitions": 2, "teacher_cost": cost(4000), "student_cost": cost(1000),
        "provenance": {"version": "9.8.7", "machine": "two cores", "command": HOSTILE,
            "date": "2026-11-28T00:45:00Z", "device": "cpu", "smoke": true},
        "samples": [{"prompt": HOSTILE, "teacher": " a b", "student": null}]})
}

/// `metrics.jsonl` of a run that is writing its last line.
pub const METRICS: &str = concat!(
    "{\"step\":1,\"loss\":4.0,\"terms\":{\"kl\":3.0,\"agreement\":0.25,\"repetitions\":2.0}}\n",
    "{\"step\":2,\"loss\":null,\"terms\":{}}\n",
    "{\"step\":2,\"validation\":{\"kl_nats\":2.5}}\n",
    "{\"step\":3,\"loss\":2.0,\"terms\":{\"kl\":1.0,\"agreement\":0.5,\"repetitions\":2.0}}\n",
    "{\"step\":4,\"loss\":1.0,\"te"
);

/// `halting.json` with one policy.
pub fn halting() -> Value {
    let point = |threshold: f64, stops: [u32; 2], mean: f64| {
        json!({"threshold": threshold, "stops": stops, "mean_repetitions": mean, "kl_nats": 0.5,
            "agreement": 0.5})
    };
    json!({"best": "gap", "policies": [{"threshold": 0.25, "gate": {"weight": [1.0]},
        "curve": {"policy": "gap", "points": [point(0.5, [4, 0], 1.0), point(0.25, [1, 3], 1.75)]}}]})
}
