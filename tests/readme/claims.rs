//! Claims of the READMEs that are neither tables nor measured numbers.

use std::fs;
use std::path::Path;
use std::process::Command;

use factorexe::recipe::Source;

use super::{index, root, text};

#[test]
fn the_recipe_of_the_readme_is_accepted() {
    let readme = text(Path::new("README.md"));
    let (_, recipe) = readme.split_once("```toml\n").unwrap();
    let (recipe, _) = recipe.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    fs::write(&path, recipe).unwrap();
    let recipe = Source { path, ..Source::default() }.read().unwrap();
    assert_eq!(recipe.train.steps, 900);
}

/// The verbs under `Verbs:` in the help, in whatever order.
#[test]
fn the_readme_names_every_verb_and_no_other() {
    let output = Command::new(env!("CARGO_BIN_EXE_factorize")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, list) = help.split_once("Verbs:\n").unwrap();
    let mut verbs: Vec<&str> = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let readme = text(Path::new("README.md"));
    let (_, table) = readme.split_once("## Verbs\n").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.contains("---"));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let mut named: Vec<&str> = quoted.filter(|word| !word.starts_with("--")).collect();
    verbs.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, verbs);
}

/// Decimals of the result in a recipe's head, against the numbers of the README it refers to.
#[test]
fn the_results_of_recipes_are_among_their_findings() {
    let mut checked = 0;
    for path in index::recipes() {
        let recipe = fs::read_to_string(&path).unwrap();
        let Some((_, findings)) = recipe.split_once("Findings: ") else { continue };
        let readme = findings.split_whitespace().next().unwrap().trim_end_matches('.');
        let known = numbers(&fs::read_to_string(root().join(readme)).unwrap());
        let [_, _, result] = index::head(&recipe);
        for number in numbers(&result).into_iter().filter(|number| number.contains('.')) {
            let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            let is_same = |other: &String| {
                other.parse().is_ok_and(|other: f64| format!("{other:.decimals$}") == number)
            };
            assert!(known.iter().any(is_same), "{}: {number} is not in {readme}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 20, "{checked}");
}

/// Numbers of a text, without the commas between thousands.
fn numbers(text: &str) -> Vec<String> {
    let is_part = |character: char| character.is_ascii_digit() || ".,".contains(character);
    let tokens = text.split(|character| !is_part(character));
    let trimmed = tokens.map(|token| token.trim_matches(['.', ',']).replace(',', ""));
    trimmed.filter(|token| !token.is_empty()).collect()
}
