//! Files that take from each other in a ring. What only tests take does not tie one: a test may use
//! what stands above.

use std::collections::{BTreeMap, BTreeSet};

use super::house::{House, Taken};

/// Every circle, with the imports that tie it.
pub fn circles(house: &House) -> Vec<String> {
    let ties_files = |taken: &&Taken| !taken.is_handed_on && !taken.is_for_tests;
    let taken: Vec<&Taken> = house.taken().iter().filter(ties_files).collect();
    let circle = |ring: &BTreeSet<&str>| {
        let head = format!("a circle of {} files:", ring.len());
        [vec![head], ties(ring, &taken)].concat().join("\n")
    };
    rings(&taken).iter().map(circle).collect()
}

/// What is taken within a ring: `from:line -> to: names`, a line for each pair of files.
fn ties(ring: &BTreeSet<&str>, taken: &[&Taken]) -> Vec<String> {
    let mut pairs: BTreeMap<(&str, &str), (usize, BTreeSet<&str>)> = BTreeMap::new();
    for one in taken {
        if ring.contains(one.from.as_str()) && ring.contains(one.to.as_str()) {
            let (line, names) =
                pairs.entry((&one.from, &one.to)).or_insert_with(|| (one.line, BTreeSet::new()));
            *line = one.line.min(*line);
            names.insert(&one.name);
        }
    }
    let tie = |((from, to), (line, names)): (&(&str, &str), &(usize, BTreeSet<&str>))| {
        let names: Vec<&str> = names.iter().copied().collect();
        format!("  {from}:{line} -> {to}: {}", names.join(", "))
    };
    pairs.iter().map(tie).collect()
}

/// The largest sets of two files or more in which each reaches each: Kosaraju 1978.
fn rings<'a>(taken: &[&'a Taken]) -> Vec<BTreeSet<&'a str>> {
    let mut uses: BTreeMap<&'a str, BTreeSet<&'a str>> = BTreeMap::new();
    let mut used_by: BTreeMap<&'a str, BTreeSet<&'a str>> = BTreeMap::new();
    for Taken { from, to, .. } in taken {
        uses.entry(from).or_default().insert(to);
        used_by.entry(to).or_default().insert(from);
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for file in uses.keys() {
        visit(file, &uses, &mut seen, &mut order);
    }
    let (mut seen, mut rings) = (BTreeSet::new(), Vec::new());
    for file in order.into_iter().rev() {
        let mut ring = Vec::new();
        visit(file, &used_by, &mut seen, &mut ring);
        if ring.len() > 1 {
            rings.push(BTreeSet::from_iter(ring));
        }
    }
    rings.sort();
    rings
}

/// Adds what is reached from `file` and was not seen before, each after all that it reaches.
fn visit<'a>(
    file: &'a str,
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    if seen.insert(file) {
        for next in edges.get(file).into_iter().flatten() {
            visit(next, edges, seen, order);
        }
        order.push(file);
    }
}
