//! Does a page show what the folder holds, whatever state that is in?

use std::fs;

use factorexe::error::Kind;
use factorexe::report::write;
use resvg::usvg::roxmltree::{Document, Node};
use serde_json::{Value, json};

use super::data::{
    HOSTILE, METRICS, body, evaluation, exits, folder, halting, law, marks, page, scaling, told,
};

fn law_folder(law: &Value) -> tempfile::TempDir {
    folder(&[("law.json", &law.to_string())])
}

#[test]
fn an_unfinished_law_shows_what_is_done() {
    let page = page(law_folder(&law()).path());
    let told = told(&page);
    for part in [
        "17 of 60 points",
        "the loss was not finite",
        "{\"depth\":8}",
        "two cores",
        "factorize law x",
        "1.25 [1.00, 1.50]",
        "fitted, slope 1.25",
        "slope 1/0.46 = 2.174",
        "accuracy within 1 point of the teacher",
        "> 16",
        "The fewest repetitions tried that were enough for each target",
        "13",
        "20.0 %",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let document = Document::parse(body(&page)).unwrap();
    let is_needs = |node: &Node| {
        let caption = node.children().find(|child| child.has_tag_name("caption"));
        caption
            .and_then(|caption| caption.text())
            .is_some_and(|text| text.starts_with("The fewest"))
    };
    let needs = document.descendants().find(is_needs).unwrap();
    let rows = needs.descendants().filter(|node| node.has_tag_name("tr")).skip(1);
    let last: Vec<_> = rows.filter_map(|row| row.last_element_child()?.text()).collect();
    assert_eq!(last, ["4", "8", "> 16"], "2 and 4 were too few");
    let ranges: Vec<_> = ["width ratio 1", "width ratio 2"]
        .iter()
        .flat_map(|series| marks(&document, series))
        .map(|mark| ["data-x", "data-low", "data-high"].map(|name| mark.attribute(name).unwrap()))
        .collect();
    assert_eq!(ranges, [["2", "2", "4"], ["4", "4", "8"], ["4", "16", "open"]]);
}

#[test]
fn curves_and_controls_are_means_over_seeds() {
    let page = page(law_folder(&law()).path());
    let document = Document::parse(body(&page)).unwrap();
    let curve = marks(&document, "d2 (depth 1/2, width 1/1)");
    let line = curve.iter().find(|mark| mark.has_tag_name("path")).unwrap();
    assert_eq!(line.attribute("data-y"), Some("0.5 0.5"));
    let first = curve.iter().find(|mark| mark.has_tag_name("g")).unwrap();
    assert_eq!(first.attribute("data-low"), Some("0.25"));
    assert_eq!(first.attribute("data-high"), Some("0.75"));
    // The accuracy of both seeds of one control: 0.5 and 0.7.
    let bar = marks(&document, "copy")[0];
    assert_eq!(bar.attribute("data-x"), Some("untied"));
    assert!((bar.attribute("data-y").unwrap().parse::<f64>().unwrap() - 0.6).abs() < 1e-12);
}

#[test]
fn hostile_text_stays_text() {
    let hostile = json!({"name": HOSTILE, "laws": [{"name": HOSTILE, "x_label": HOSTILE,
        "note": HOSTILE, "points": [{"series": HOSTILE, "x": 1, "y": 1}]}]});
    let folder = folder(&[
        ("law.json", &law().to_string()),
        ("scaling.json", &hostile.to_string()),
        ("exits.json", &exits().to_string()),
        ("eval.json", &evaluation().to_string()),
        ("recipe.toml", HOSTILE),
    ]);
    let page = page(folder.path());
    let document = Document::parse(body(&page)).unwrap();
    for node in document.descendants() {
        assert!(!["script", "img", "iframe"].contains(&node.tag_name().name()));
        assert!(node.attributes().all(|attribute| !attribute.name().starts_with("on")));
        if let Some(link) = node.attribute("href") {
            assert!(link.starts_with("figures/"), "{link}");
        }
    }
    assert!(told(&page).contains(&format!("seed = 1 # {HOSTILE}")));
    assert!(!page.contains("<script") && !page.contains("<img"));
}

#[test]
fn a_truncated_file_costs_only_its_own_part() {
    let whole = law().to_string();
    for length in (0..whole.len()).step_by(97) {
        // A name may be cut within a letter.
        let law = String::from_utf8_lossy(&whole.as_bytes()[..length]).into_owned();
        let folder = folder(&[("law.json", &law), ("scaling.json", "{\"laws\": []}")]);
        let told = told(&page(folder.path()));
        assert!(told.contains("law.json cannot be read"), "{length}: {told}");
        assert!(told.contains("Scaling laws"), "{length}: {told}");
    }
}

type Fields = serde_json::Map<String, Value>;
type Spoil<'a> = &'a dyn Fn(&mut Fields, &str);

/// Every field of `whole`, at any depth, null or missing or of another type.
fn spoilt(whole: &Value, spoil: Spoil) -> Vec<Value> {
    let Value::Object(fields) = whole else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in fields {
        let mut changed = fields.clone();
        spoil(&mut changed, name);
        found.push(Value::Object(changed));
        let inner = value.as_array().and_then(|items| items.first()).unwrap_or(value);
        for inside in spoilt(inner, spoil) {
            let inside = if value.is_array() { json!([inside]) } else { inside };
            let mut changed = fields.clone();
            changed[name] = inside;
            found.push(Value::Object(changed));
        }
    }
    found
}

#[test]
fn missing_and_null_fields_cost_nothing_else() {
    let spoils: [Spoil; 2] =
        [&|fields, name| drop(fields.insert(name.to_owned(), Value::Null)), &|fields, name| {
            drop(fields.shift_remove(name))
        }];
    for (file, whole) in [
        ("law.json", law()),
        ("scaling.json", scaling()),
        ("exits.json", exits()),
        ("eval.json", evaluation()),
    ] {
        for spoil in spoils {
            for value in spoilt(&whole, spoil) {
                let folder = folder(&[(file, &value.to_string())]);
                assert!(!told(&page(folder.path())).contains("cannot be read"), "{value}");
            }
        }
    }
    let told = told(&page(law_folder(&json!({})).path()));
    for note in ["No law is fitted yet", "no data yet", "does not say how many points"] {
        assert!(told.contains(note), "{note}: {told}");
    }
}

#[test]
fn scaling_laws_have_a_row_and_a_figure_each() {
    let folder = folder(&[("scaling.json", &scaling().to_string())]);
    let page = page(folder.path());
    let told = told(&page);
    for part in
        ["What is a repetition worth?", "0.46 [0.40, open]", "not measured yet", "no data yet"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let document = Document::parse(body(&page)).unwrap();
    let found = marks(&document, "shared");
    assert_eq!(
        (found[0].attribute("data-x"), found[0].attribute("data-y")),
        (Some("1"), Some("3"))
    );
    assert_eq!(found[1].attribute("data-y"), Some("6"));
}

#[test]
fn exits_stand_beside_the_length_and_the_oracle() {
    let page = page(folder(&[("exits.json", &exits().to_string())]).path());
    let told = told(&page);
    for part in ["a repetition a step", "told steps: 1 seed", "0.75", "12.5 %", "4 steps"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let document = Document::parse(body(&page)).unwrap();
    let line = marks(&document, "oracle");
    let line = line.iter().find(|mark| mark.has_tag_name("path")).unwrap();
    assert_eq!(line.attribute("data-y"), Some("1.5 3.5"));
    assert!(marks(&document, "all repetitions").is_empty());
}

#[test]
fn a_run_shows_quality_costs_training_and_halting() {
    let folder = folder(&[
        ("eval.json", &evaluation().to_string()),
        ("metrics.jsonl", METRICS),
        ("recipe.toml", "seed = 7\n"),
        ("student/halting.json", &halting().to_string()),
    ]);
    let page = page(folder.path());
    let told = told(&page);
    for part in [
        "10 [9, 11]",
        "seed = 7",
        "0.25",
        "teacher: a b",
        "Validation",
        "version: 9.8.7\nmachine: two cores\ndevice: cpu\ndate: 2026-11-28T00:45:00Z\nsize: a smoke",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("cannot be read"));
    let document = Document::parse(body(&page)).unwrap();
    let list = |series| {
        let found = marks(&document, series).into_iter().find(|mark| mark.has_tag_name("path"));
        found.and_then(|mark| mark.attribute("data-y")).unwrap_or("none")
    };
    assert_eq!((list("loss"), list("kl"), list("agreement")), ("4 2", "3 1", "0.25 0.5"));
    assert_eq!(list("student"), "20 10");
    assert_eq!((list("step over state"), list("norm of the Jacobian")), ("0.25 0.5", "0.5 0.5"));
    let stops: Vec<_> = marks(&document, "gap")
        .into_iter()
        .filter(|mark| mark.has_tag_name("g"))
        .filter_map(|mark| mark.attribute("data-y"))
        .collect();
    assert_eq!(stops, ["0.25", "0.75"]);
    let level =
        |node: &resvg::usvg::roxmltree::Node| node.attribute("data-reference") == Some("teacher");
    assert_eq!(document.descendants().filter(level).count(), 3);
}

#[test]
fn a_run_that_is_not_finished_shows_its_training() {
    let folder = folder(&[("metrics.jsonl", METRICS)]);
    let told = told(&page(folder.path()));
    assert!(told.contains("this run is not finished") && told.contains("Loss and its terms"));
}

#[test]
fn unreadable_lines_are_counted() {
    let folder = folder(&[("metrics.jsonl", "{\"step\":1,\"loss\":2}\n{]\nnull\n\u{fffd}\n")]);
    let told = told(&page(folder.path()));
    assert!(told.contains("3 lines of metrics.jsonl cannot be read"), "{told}");
}

#[test]
fn a_folder_with_nothing_to_report_is_an_error_with_a_hint() {
    let empty = folder(&[("notes.txt", "")]);
    for path in [empty.path().to_owned(), empty.path().join("absent")] {
        let error = write(&path).unwrap_err();
        assert_eq!(error.kind(), Kind::Input);
        assert!(error.to_string().contains("law.json") && error.to_string().contains("hint:"));
    }
    assert!(!empty.path().join("figures").exists());
}

#[test]
fn files_are_replaced_whole_and_nothing_else_is_left() {
    let folder = law_folder(&law());
    let path = write(folder.path()).unwrap();
    assert_eq!(path, folder.path().join("report.html"));
    fs::write(&path, "old").unwrap();
    let first: Vec<_> = names(&folder.path().join("figures"));
    write(folder.path()).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("<!doctype html>"));
    assert_eq!(names(folder.path()), ["figures", "law.json", "report.html"]);
    assert_eq!(names(&folder.path().join("figures")), first);
    assert_eq!(first.len(), 2 * 5, "two of needed, two of quality, one of controls: {first:?}");
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
