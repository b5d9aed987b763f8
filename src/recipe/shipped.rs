//! The recipes that ship with the repository, compiled in.

use super::kind::verb_of;

/// A recipe and where it lies in the repository.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Its path in the repository.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        &[$(Shipped {
            path: $path,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)),
        }),*]
    };
}

/// All of them; `tests/recipes.rs` holds the list to the folder.
pub const SHIPPED: &[Shipped] = shipped![
    "recipes/tiny.toml",
    "recipes/tiny-any-depth.toml",
    "recipes/tiny-teacher.toml",
    "recipes/smollm2-135m.toml",
    "recipes/smollm2-135m-any-depth.toml",
    "recipes/smollm2-135m-gpu.toml",
    "recipes/law-tasks.toml",
    "recipes/law-chains.toml",
    "recipes/law-text.toml",
    "recipes/scaling-tasks.toml",
    "recipes/exits-tasks.toml",
];

impl Shipped {
    /// The comment lines it begins with, without their `#`.
    fn head(&self) -> impl Iterator<Item = &'static str> {
        self.text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim)
    }

    /// What it is for: its first line.
    #[must_use]
    pub fn purpose(&self) -> &'static str {
        self.head().next().unwrap_or_default()
    }

    /// What it costs, as measured.
    #[must_use]
    pub fn cost(&self) -> &'static str {
        self.head().find_map(|line| line.strip_prefix("Cost:")).unwrap_or_default().trim()
    }

    /// The verb that carries it out.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        verb_of(self.text)
    }
}
