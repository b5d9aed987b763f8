//! From where do the paths of a recipe start?

use std::path::Path;

use super::sections::Recipe;
use crate::data::SplitConfig;
use crate::pretrain::TokenizerConfig;

/// Rewrites every relative path that is not in the current directory, but beside the recipe.
pub(super) fn resolve(recipe: &mut Recipe, folder: &Path) {
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
    paths.into_iter().for_each(|path| resolve_path(path, folder));
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
