//! Shipped recipes: each is read, and runs at smoke size.

use std::path::{Path, PathBuf};
use std::process::Command;

use factorexe::recipe::shipped::SHIPPED;
use factorexe::recipe::{Recipe, Source};

/// Recipes of studies have verbs of their own.
const STUDIES: [(&str, &str); 3] =
    [("law-", "law"), ("scaling-", "scaling"), ("exits-", "halting")];

fn study(path: &Path) -> Option<&'static str> {
    let name = path.file_name().unwrap().to_string_lossy();
    STUDIES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, verb)| *verb)
}

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let mut recipes: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    recipes.sort();
    assert!(recipes.len() >= 3, "{recipes:?}");
    recipes
}

fn read(path: &Path, smoke: bool) -> Recipe {
    let source = Source { path: path.to_owned(), smoke, ..Source::default() };
    source.read().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_recipe_is_read_and_its_resolved_form_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for path in shipped().into_iter().filter(|path| study(path).is_none()) {
        for smoke in [false, true] {
            let recipe = read(&path, smoke);
            let again = folder.path().join("again.toml");
            std::fs::write(&again, recipe.to_toml().unwrap()).unwrap();
            assert_eq!(read(&again, false), recipe, "{}", path.display());
        }
    }
}

#[test]
fn every_recipe_in_the_folder_is_compiled_in_and_names_its_verb() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut listed: Vec<PathBuf> = SHIPPED.iter().map(|recipe| root.join(recipe.path)).collect();
    listed.sort();
    assert_eq!(listed, shipped());
    for recipe in SHIPPED {
        let path = root.join(recipe.path);
        let expected = study(&path).unwrap_or_else(|| match read(&path, true).is_pretraining() {
            true => "pretrain",
            false => "distill",
        });
        assert_eq!(recipe.verb(), expected, "{}", recipe.path);
        assert!(!recipe.purpose().is_empty() && !recipe.cost().is_empty(), "{}", recipe.path);
    }
}

/// A small pretrained teacher stands in for the one that each recipe names.
#[test]
fn every_recipe_runs_at_smoke() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = folder.path().join("teacher");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_factorize"))
            .args(arguments)
            .args(["--smoke", "--quiet"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("XDG_CACHE_HOME", folder.path())
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
    };
    let layers = ["--set", "model.layers=30", "--set", "model.width=32"];
    let base = ["pretrain", "recipes/tiny-teacher.toml", "--out", teacher.to_str().unwrap()];
    run(&[&base[..], &layers[..]].concat());
    for (index, path) in shipped().iter().enumerate() {
        let out = folder.path().join(index.to_string());
        let (out, path_text) = (out.to_str().unwrap(), path.to_str().unwrap());
        if let Some(verb) = study(path) {
            run(&[verb, path_text, "--out", out]);
        } else if read(path, true).is_pretraining() {
            run(&["pretrain", path_text, "--out", out]);
        } else {
            run(&["--teacher", teacher.to_str().unwrap(), path_text, "--out", out]);
        }
    }
}

/// Keys that were renamed, in their old and their new spelling.
const RENAMED: &[(&str, &str)] = &[
    ("loss.exits={ weight = 0.5 }", "loss.early_exit={ weight = 0.5 }"),
    ("loss.hidden.tokens=\"asked\"", "loss.hidden.tokens=\"supervised\""),
    (
        "loss.halting={ policy = \"ponder\", learns = \"gate\" }",
        "loss.halting={ policy = \"ponder\", trains = \"gate\" }",
    ),
    ("phases={ mixed_until = 0.9 }", "phases={ scheduled_until = 0.9 }"),
    (
        "depth={ drawn_for = \"token\", law = { kind = \"uniform\", least = 1, most = 3 } }",
        "depth={ sampled_per = \"token\", sampling = { kind = \"uniform\", least = 1, most = 3 } }",
    ),
    ("student.between=\"norm\"", "student.state_norm=\"norm\""),
];

#[test]
fn the_old_spelling_of_a_key_parses_to_the_same_value() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/tiny.toml");
    let read = |change: &str| {
        let source = Source { path: path.clone(), set: vec![change.into()], ..Source::default() };
        source.read().unwrap_or_else(|error| panic!("{change}: {error}"))
    };
    for (old, new) in RENAMED {
        assert_eq!(read(old), read(new), "{old}");
    }
}
