//! The index of the recipes, made of the first lines of each: purpose, cost, result.

use std::fs;
use std::path::PathBuf;

use super::root;

/// The recipes in `recipes/`.
pub fn recipes() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("recipes"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    paths.sort();
    paths
}

/// A table of the recipes.
pub fn of_recipes() -> String {
    let mut table = "| recipe | purpose | cost | result |\n| --- | --- | --- | --- |\n".to_owned();
    for path in recipes() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let [purpose, cost, result] = head(&fs::read_to_string(&path).unwrap());
        table += &format!("| [`{name}`]({name}) | {purpose} | {cost} | {result} |\n");
    }
    table
}

/// The paragraph at the top of a recipe: its purpose, then `Cost:` and `Result:`.
pub fn head(recipe: &str) -> [String; 3] {
    let lines = recipe.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let paragraph = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let (purpose, rest) = paragraph.split_once("Cost: ").unwrap();
    let (cost, result) = rest.split_once("Result: ").unwrap();
    [purpose, cost, result].map(|part| part.trim().trim_end_matches('.').to_owned())
}
