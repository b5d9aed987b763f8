//! The existing path that a mistyped one most resembles.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Jaro-Winkler similarity from which on a name may be a misspelling of another.
const SIMILAR: f64 = 0.84;
/// A folder of more entries is not searched.
const MOST_ENTRIES: usize = 10_000;

/// The existing path that resembles `path`, name by name; none when `path` exists, or when nothing
/// is similar enough.
#[must_use]
pub fn near(path: &Path) -> Option<PathBuf> {
    if path.exists() {
        return None;
    }
    let mut found = PathBuf::new();
    for component in path.components() {
        let exact = found.join(component);
        found = match component {
            _ if exact.exists() => exact,
            Component::Normal(name) => found.join(similar_entry(&found, &name.to_string_lossy())?),
            _ => return None,
        };
    }
    Some(found)
}

/// The entry of `folder` whose name, with or without its extension, is most like `name`.
fn similar_entry(folder: &Path, name: &str) -> Option<String> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(here).ok()?.take(MOST_ENTRIES).flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let scored = names.filter(|other| !other.starts_with('.')).map(|other| {
        let stem = Path::new(&other).file_stem().unwrap_or_default().to_string_lossy();
        let score = similarity(name, &other).max(similarity(name, &stem));
        (score, other)
    });
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)))?;
    (best.0 >= SIMILAR).then_some(best.1)
}

fn similarity(name: &str, other: &str) -> f64 {
    strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_path_is_found_name_by_name_and_nonsense_is_not() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("recipes/sotu-12l")).unwrap();
        fs::write(place.path().join("recipes/tiny.toml"), "").unwrap();
        let look = |path: &str| {
            let found = near(&place.path().join(path))?;
            Some(found.strip_prefix(place.path()).unwrap().to_string_lossy().into_owned())
        };
        for (typed, meant) in [
            ("recipe/sotu-12l", "recipes/sotu-12l"),
            ("recipes/sotu-12", "recipes/sotu-12l"),
            ("recipe/tiny.tml", "recipes/tiny.toml"),
            ("recipes/tiny", "recipes/tiny.toml"),
            ("Recipes/Tiny.toml", "recipes/tiny.toml"),
        ] {
            assert_eq!(look(typed).as_deref(), Some(meant), "{typed}");
        }
        for typed in ["recipes/tiny.toml", "HuggingFaceTB/SmolLM2-135M", "recipes/xyzzy"] {
            assert_eq!(look(typed), None, "{typed}");
        }
    }
}
