//! The paths of a recipe, and the folders from which they start.

use std::path::{Component, Path, PathBuf};

use super::sections::Recipe;
use crate::data::SplitConfig;
use crate::pretrain::TokenizerConfig;

/// Rewrites every relative path that is not in the current directory, but beside the recipe.
pub(super) fn resolve(recipe: &mut Recipe, folder: &Path) {
    paths(recipe).into_iter().for_each(|path| resolve_path(path, folder));
}

/// Makes every path absolute that names something here.
pub(super) fn make_absolute(recipe: &mut Recipe) {
    paths(recipe).into_iter().for_each(absolute_path);
}

/// A path that names something here, as an absolute one.
pub fn absolute_path(path: &mut String) {
    if is_there(Path::new(&*path))
        && let Ok(absolute) = std::path::absolute(&*path)
    {
        *path = absolute.to_string_lossy().into_owned();
    }
}

/// A path that names something here, as one that starts at `folder`: a recipe written there is read
/// the same from anywhere, and says nothing of the machine.
pub fn relative_path(path: &mut String, folder: &Path) {
    if !is_there(Path::new(&*path)) {
        return;
    }
    let (Ok(target), Ok(folder)) = (std::path::absolute(&*path), std::path::absolute(folder))
    else {
        return;
    };
    let common = target.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| Component::ParentDir);
    let relative: PathBuf = up.chain(target.components().skip(common)).collect();
    *path = relative.to_string_lossy().into_owned();
}

/// Every path of a recipe: text, tokenizer, teacher.
fn paths(recipe: &mut Recipe) -> Vec<&mut String> {
    let mut paths: Vec<&mut String> = recipe.data.files.iter_mut().collect();
    for split in [&mut recipe.data.validation, &mut recipe.data.test] {
        if let SplitConfig::Files(files) = split {
            paths.extend(files);
        }
    }
    if let Some(TokenizerConfig::File { path }) = &mut recipe.tokenizer {
        paths.push(path);
    }
    if let Some(teacher) = recipe.teacher.as_mut().filter(|teacher| !teacher.source.is_empty()) {
        paths.push(&mut teacher.source);
    }
    paths
}

/// A path that is not in the current directory, but in `folder`, starts there.
pub fn resolve_path(path: &mut String, folder: &Path) {
    let beside = folder.join(&*path);
    if !is_there(Path::new(&*path)) && is_there(&beside) {
        *path = beside.to_string_lossy().into_owned();
    }
}

/// Whether a path or a glob names anything.
fn is_there(path: &Path) -> bool {
    let matches =
        || glob::glob(&path.to_string_lossy()).is_ok_and(|mut found| found.next().is_some());
    path.exists() || matches()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_there_can_be_written_from_anywhere_and_no_other_is_changed() {
        // Tests run in the folder of the crate.
        let rewritten = |path: &str, change: &dyn Fn(&mut String)| {
            let mut path = path.to_owned();
            change(&mut path);
            path
        };
        let here = std::env::current_dir().unwrap();
        let absolute = |path: &str| rewritten(path, &absolute_path);
        assert_eq!(Path::new(&absolute("recipes/tiny.toml")), here.join("recipes/tiny.toml"));
        assert!(Path::new(&absolute("recipes/*.toml")).is_absolute());
        assert_eq!(absolute("HuggingFaceTB/SmolLM2-135M"), "HuggingFaceTB/SmolLM2-135M");
        let relative =
            |path: &str| rewritten(path, &|path| relative_path(path, Path::new("runs/x")));
        assert_eq!(relative("recipes/tiny.toml"), "../../recipes/tiny.toml");
        assert_eq!(relative("owner/name"), "owner/name");
    }
}
