//! The rules that a source file keeps.
//!
//! Each rule is a function from sources to complaints, so that it can be seen to fail on a small
//! made-up tree before it is believed about the real one.

use super::house::{House, Taken};
use super::source::{Mention, Source};
use super::{FLOORS, GRADIENT_CUTTERS, GRADIENT_CUTTING_METHODS, LINT_EXCEPTIONS, LONGEST};

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// `src/nn/norm.rs` is in `nn`, `src/error.rs` in `error`; `lib.rs` and `main.rs` are in none.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    (!["lib", "main"].contains(&room)).then_some(room)
}

/// Imports that do not fall: upward, or sideways into another room.
pub fn rising_imports(sources: &[Source], house: &House) -> Vec<String> {
    let homeless = |source: &&Source| room_of(&source.path).is_some_and(|r| floor(r).is_none());
    let mut complaints: Vec<String> = sources
        .iter()
        .filter(homeless)
        .map(|source| format!("{}: its room has no floor", source.path))
        .collect();
    for Taken { from, line, to, name, .. } in house.taken() {
        let rooms = room_of(from).zip(room_of(to)).filter(|(from, to)| from != to);
        let floors = rooms.and_then(|(from, to)| floor(from).zip(floor(to)));
        if let (Some((room, other)), Some((own, above))) = (rooms, floors)
            && above >= own
        {
            complaints.push(format!(
                "{from}:{line}: `{room}` (floor {own}) takes `{name}` of `{other}` (floor {above})"
            ));
        }
    }
    complaints
}

/// The floors as drawn in the documentation of the crate: lines such as `//! 4  distill  hub`.
pub fn drawn_floors(lib: &str) -> Vec<(&str, u8)> {
    lib.lines()
        .filter_map(|line| line.strip_prefix("//! ")?.split_once("  "))
        .filter_map(|(floor, rooms)| Some((floor.parse::<u8>().ok()?, rooms)))
        .flat_map(|(floor, rooms)| rooms.split_whitespace().map(move |room| (room, floor)))
        .collect()
}

pub fn too_long(sources: &[Source]) -> Vec<String> {
    let lines = |source: &Source| source.text.lines().count();
    sources
        .iter()
        .filter(|source| lines(source) > LONGEST)
        .map(|source| format!("{}: {} lines, at most {LONGEST}", source.path, lines(source)))
        .collect()
}

/// Gradient-cutting kernels, or modules that hold them, named outside of the `inference` module of
/// their listed file; and listed ones that are not named.
pub fn cut_gradients(sources: &[Source], listed: &[(&str, &[&str])]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let own = listed.iter().find(|(path, _)| *path == source.path);
        let own = own.map_or(&[][..], |(_, cutters)| cutters);
        let mut named = Vec::new();
        for Mention { line, path, inside, .. } in source.mentions() {
            // A module that holds a cutter is as good as the cutter: `use candle_nn::ops;`.
            let matches =
                |cutter: &&&str| cutter.split("::").zip(&path).all(|(a, b)| a == b || b == "*");
            let Some(cutter) = GRADIENT_CUTTERS.iter().find(matches) else { continue };
            let path = path.join("::");
            if own.contains(&path.as_str()) && inside == ["inference"] {
                named.push((line, path));
            } else {
                let place = format!("{}:{line}", source.path);
                complaints
                    .push(format!("{place}: `{path}` gives `{cutter}`, which cuts the gradient"));
            }
        }
        for method in GRADIENT_CUTTING_METHODS {
            let is_named = |line: &usize| {
                named.iter().any(|(own, path)| own == line && path.ends_with(method))
            };
            let lines = source.lines_with(method).into_iter().filter(|line| !is_named(line));
            complaints.extend(
                lines.map(|line| format!("{}:{line}: `{method}` cuts the gradient", source.path)),
            );
        }
        let unnamed = own.iter().filter(|cutter| named.iter().all(|(_, path)| path != *cutter));
        complaints.extend(
            unnamed.map(|cutter| format!("{}: listed, but has no `{cutter}`", source.path)),
        );
    }
    complaints
}

/// `unsafe` in a file that is not listed, and listed files that have none.
pub fn unlisted_unsafe(sources: &[Source], listed: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let lines = source.lines_with("unsafe");
        match (lines.first(), listed.contains(&source.path.as_str())) {
            (Some(line), false) => {
                complaints.push(format!("{}:{line}: unsafe, unlisted", source.path));
            }
            (None, true) => complaints.push(format!("{}: listed, but has no unsafe", source.path)),
            _ => {}
        }
    }
    complaints
}

pub fn misplaced_exceptions(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (lint, places) in LINT_EXCEPTIONS {
        let is_elsewhere =
            |source: &&Source| !places.iter().any(|place| source.path.starts_with(place));
        for source in sources.iter().filter(is_elsewhere) {
            let lines = source.lines_with(lint).into_iter();
            complaints.extend(
                lines.map(|line| format!("{}:{line}: {lint} is not allowed here", source.path)),
            );
        }
    }
    complaints
}

/// Recipes whose first comment does not tell purpose, cost and result.
pub fn silent_recipes(recipes: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for recipe in recipes {
        let head: Vec<_> = recipe.text.lines().take_while(|line| line.starts_with('#')).collect();
        if head.first().is_none_or(|line| line.len() < 12 || line.contains("Cost:")) {
            complaints.push(format!("{}:1: the first line tells no purpose", recipe.path));
        }
        for word in ["Cost:", "Result:"] {
            if !head.iter().any(|line| line.contains(word)) {
                complaints.push(format!("{}:1: the head tells no `{word}`", recipe.path));
            }
        }
    }
    complaints
}
