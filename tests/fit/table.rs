//! Do CSV files become reports, and broken ones errors that say where?

use std::fmt::Write;

use factorexe::fit::{FitKind, run};
use serde_json::Value;

fn report(kind: FitKind, text: &str) -> Value {
    serde_json::to_value(run(kind, text, "measured.csv").unwrap()).unwrap()
}

fn failure(kind: FitKind, text: &str) -> String {
    run(kind, text, "measured.csv").unwrap_err().to_string()
}

#[test]
fn a_law_names_its_form_exponent_and_rivals() {
    let text = "depth_ratio,width_ratio,low,high,teacher,seed\n\
                1,1,1,2,a,0\n2,1,2,4,a,0\n4,1,4,8,a,0\n8,1,8,16,a,0\n\
                1,1,1,2,a,1\n2,1,2,4,a,1\n4,1,4,8,a,1\n8,1,8,,a,1\n";
    let found = report(FitKind::Law, text);
    assert_eq!((&found["kind"], &found["form"]), (&"law".into(), &"linear".into()));
    assert_eq!(found["right_censored"], 1);
    let exponent = &found["exponent"];
    for number in ["estimate", "low", "high"] {
        assert!((exponent[number].as_f64().unwrap() - 1.0).abs() < 0.2, "{exponent}");
    }
    let forms = found["forms"].as_array().unwrap();
    assert_eq!(forms.len(), 5);
    for form in forms {
        assert!(form["parameters"]["sigma"].is_number() && form["aicc"].is_number(), "{form}");
    }
}

#[test]
fn a_chain_takes_exact_numbers_or_bounds() {
    let exact = report(FitKind::Chain, "length,samples\n1,8\n2,16\n3,32\n4,64\n5,128\n6,256\n");
    assert_eq!(exact["form"], "exponential");
    let bounds = "length,low,high\n1,4,8\n2,8,16\n4,16,32\n8,32,64\n16,64,128\n";
    let exponent = report(FitKind::Chain, bounds)["exponent"]["estimate"].as_f64().unwrap();
    assert!((exponent - 1.0).abs() < 1e-3, "{exponent}");
}

#[test]
fn a_surface_names_its_parameters() {
    let mut text = String::from("n_once,n_rec,repetitions,tokens,loss\n");
    for size in [1e5_f64, 1e6, 1e7] {
        for repetitions in [1.0_f64, 2.0, 4.0] {
            let loss = 1.5 + 30.0 * (size + repetitions.sqrt() * size).powf(-0.3);
            writeln!(text, "{size},{size},{repetitions},1e9,{loss}").unwrap();
        }
    }
    let found = report(FitKind::Joint, &text);
    for (name, truth) in [("E", 1.5), ("A", 30.0), ("alpha", 0.3), ("phi", 0.5)] {
        let parameter = &found["parameters"][name];
        let near = (parameter["estimate"].as_f64().unwrap() / truth - 1.0).abs() < 1e-3;
        assert!(near && parameter["low"].is_number(), "{name}: {parameter}");
    }
    assert!(found["parameters"]["B"]["estimate"].is_null());
}

#[test]
fn a_horizon_names_kappa() {
    let found = report(FitKind::Horizon, "length,correct,trials\n2,500,1000\n4,250,1000\n");
    assert!((found["kappa"]["estimate"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{found}");
}

#[test]
fn errors_name_file_line_and_column() {
    let cases = [
        (FitKind::Law, "ratio,low,high\n1,1,2\n2,x,4\n", "line 3, column `low`: found `x`"),
        (FitKind::Law, "ratio,low,high\n1,,2\n", "line 2, column `low`: found ``"),
        (FitKind::Law, "ratio,low,high\n1,inf,2\n", "found `inf`, expected a number"),
        (FitKind::Law, "ratio,low\n1,1\n", "expected `high` among them"),
        (FitKind::Law, "ratio,low,high\n1,1\n", "line: 2"),
        (FitKind::Law, "ratio,ratio,high\n1,1,1\n", "two columns `ratio`"),
        (FitKind::Law, "ratio,low,high\n", "found no rows"),
        (FitKind::Law, "", "expected `ratio` among them"),
        (FitKind::Chain, "length,low,high\n1,8,4\n", "row 1: found low 8"),
        (FitKind::Horizon, "length,correct,trials\n1,-1,4\n", "column `correct`: found `-1`"),
    ];
    for (kind, text, expected) in cases {
        let found = failure(kind, text);
        assert!(found.contains(expected) && found.contains("measured.csv"), "{found}");
    }
}
