//! Tables as Markdown: the rows of the page, with constant decimals.

use factorexe::error::Kind;
use factorexe::report::{compare, compose, markdown};
use serde_json::json;

use super::data::{evaluation, exits, folder, law, page, scaling, told};

fn tables(files: &[(&str, &str)], names: &[&str]) -> String {
    let folder = folder(files);
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    markdown(&compose(folder.path()).unwrap(), &names).unwrap()
}

#[test]
fn one_table_is_chosen_by_its_name_and_stands_alone() {
    let scores = tables(&[("eval.json", &evaluation().to_string())], &["scores"]);
    let expected = "\
        | model | repetitions | perplexity (95 % CI) | KL, nats/token (95 % CI) | \
        top-1 agreement (95 % CI) | cosine | MFLOP/token |\n\
        | --- | ---: | ---: | ---: | ---: | --- | ---: |\n\
        | teacher | – | 8.5 | – | – | – | – |\n\
        | student | 1 | 20.0 [19.0, 21.0] | 0.500 | 75.0 % | – | 2.0 |\n\
        | student | 2 | 10.0 [9.0, 11.0] | 0.500 | 75.0 % | – | 2.0 |\n";
    assert_eq!(scores, expected);
}

#[test]
fn several_tables_stand_under_their_captions() {
    let all = tables(&[("law.json", &law().to_string())], &[]);
    let captions = ["In brief:", "The law:", "Forms of the law", "Accuracy without", "Controls:"];
    let places: Vec<_> = captions.iter().map(|caption| all.find(caption).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(all.contains("| exponent of depth ratio | 1.25 [1.00, 1.50] |"), "{all}");
    assert!(!all.contains("by repetitions"), "it is shown on request alone: {all}");
}

#[test]
fn tables_of_one_name_are_told_apart_by_their_headings() {
    let laws = json!({"laws": [
        {"name": "first", "alternatives": [{"form": "a", "aicc": 1.0}]},
        {"name": "second", "alternatives": [{"form": "b", "aicc": 2.0}]},
    ]});
    let forms = tables(&[("scaling.json", &laws.to_string())], &["forms"]);
    assert!(forms.contains("first. Forms") && forms.contains("second. Forms"), "{forms}");
}

#[test]
fn every_row_of_markdown_is_on_the_page() {
    let files = [
        ("law.json", law()),
        ("scaling.json", scaling()),
        ("exits.json", exits()),
        ("eval.json", evaluation()),
    ];
    for (file, content) in files {
        let content = content.to_string();
        let text = tables(&[(file, &content)], &[]);
        let told = told(&page(folder(&[(file, &content)]).path()));
        let cells = text.lines().filter(|line| line.starts_with("| ") && !line.contains("---"));
        for cell in cells.flat_map(|line| line.trim_matches('|').split(" | ")) {
            let cell = cell.trim().replace('\\', "");
            let is_summary = ["quantity", "value"].contains(&cell.as_str());
            assert!(is_summary || told.contains(&cell), "{file}: {cell}");
        }
    }
}

#[test]
fn accuracy_by_repetitions_is_a_mean_over_seeds() {
    let accuracy = tables(&[("law.json", &law().to_string())], &["accuracy"]);
    assert!(accuracy.contains("| N = 1 | N = 2 |"), "{accuracy}");
    assert!(accuracy.ends_with("| copy | at-n | 12 | d2 | 50.0 % | 50.0 % |\n"), "{accuracy}");
}

#[test]
fn an_unknown_table_is_refused_with_the_names_of_those_there_are() {
    let folder = folder(&[("eval.json", &evaluation().to_string())]);
    let sections = compose(folder.path()).unwrap();
    let error = markdown(&sections, &["score".to_owned()]).unwrap_err();
    assert_eq!(error.kind(), Kind::Input);
    assert!(error.to_string().contains("scores") && error.to_string().contains("costs"), "{error}");
}

#[test]
fn text_of_the_data_stays_one_cell_of_text() {
    let hostile = "a | b\n<b>*c*</b>";
    let law = json!({"baselines": [{"task": hostile, "chance": 0.5}]}).to_string();
    let text = tables(&[("law.json", &law)], &["baselines"]);
    let row = text.lines().last().unwrap();
    assert_eq!(row, r"| a \| b \<b>\*c\*\</b> | 50.0 % | – | – | – |");
}

#[test]
fn a_csv_file_is_a_table_under_its_comment() {
    let csv = "# Tokens per second.\nname,speed,note\nslow,1.5,\nfast,12,\"a, b\"\n";
    let alone = tables(&[("speed.csv", csv)], &[]);
    let expected = "| name | speed | note |\n| --- | ---: | --- |\n| slow | 1.5 |  |\n\
        | fast | 12.0 | a, b |\n";
    assert_eq!(alone, expected);
    let page = page(folder(&[("speed.csv", csv)]).path());
    assert!(told(&page).contains("Tokens per second."));
    let both = [("speed.csv", csv), ("law.json", "{}")];
    assert!(!tables(&both, &[]).contains("slow"), "a study says the same in brief");
    assert_eq!(tables(&both, &["speed"]), expected);
}

#[test]
fn runs_are_compared_at_the_repetitions_they_were_trained_for() {
    let run = folder(&[("eval.json", &evaluation().to_string())]);
    let student = run.path().join("student");
    std::fs::create_dir(&student).unwrap();
    std::fs::write(student.join("config.json"), CONFIG).unwrap();
    let table = compare(&[run.path(), run.path()]).unwrap().markdown();
    let row =
        "| small | 30 | 8.5 | 2 + 9 × 2 + 3 | 10.0 [9.0, 11.0] | 0.50 | 75.0 % | 0.25 | – |\n";
    assert!(table.ends_with(&row.repeat(2)), "{table}");
    let unfinished = folder(&[("metrics.jsonl", "")]);
    let error = compare(&[run.path(), unfinished.path()]).unwrap_err();
    assert!(error.to_string().contains("no eval.json"), "{error}");
}

/// `config.json` of a student of SmolLM2's shape, as far as a table reads it.
const CONFIG: &str = r#"{"model_type": "factorexe-looped", "factorexe": {
    "base": {"family": "llama", "layers": 30, "width": 576, "heads": 9, "kv_heads": 3,
        "head_width": 64, "mlp_width": 1536, "vocabulary": 49152, "max_positions": 8192,
        "norm_eps": 1e-5, "rope_theta": 100000.0, "tied_head": true},
    "prelude_layers": 2, "core_layers": 9, "repetitions": 2, "coda_layers": 3}}"#;
