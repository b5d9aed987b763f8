//! What does a source file say, once comments and literals are out of the way?

use std::{fs, path::Path};

/// One file of the crate, or one made up for a test.
pub struct Source {
    /// From the root of the repository, with `/`: `src/nn/ops.rs`.
    pub path: String,
    pub text: String,
    /// The text with comments and literals blanked; every line stays where it was.
    pub code: String,
}

/// A path such as `crate::nn::{ops, params::Params}`, spelled out, without its root.
#[derive(Debug, PartialEq)]
pub struct Mention {
    pub line: usize,
    pub path: Vec<String>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: code_only(text) }
    }

    /// Every file under `folder` whose name ends in `ending`, by name; none if there is no folder.
    pub fn all_under(folder: &str, ending: &str) -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut paths = vec![root.join(folder)];
        let mut found = Vec::new();
        while let Some(path) = paths.pop() {
            if let Ok(entries) = fs::read_dir(&path) {
                paths.extend(entries.map(|entry| entry.unwrap().path()));
            } else if path.to_str().is_some_and(|name| name.ends_with(ending)) {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Self::new(&name, &fs::read_to_string(&path).unwrap()));
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// The lines of code (counted from 1) on which `word` stands alone.
    pub fn lines_with(&self, word: &str) -> Vec<usize> {
        words(&self.code).filter(|(_, found)| *found == word).map(|(at, _)| self.line(at)).collect()
    }

    /// Every path that begins with `root`; `use root;` and `use root as x;` give an empty one.
    pub fn mentions(&self, root: &str) -> Vec<Mention> {
        let mut found = Vec::new();
        let mut before = "";
        for (at, word) in words(&self.code) {
            if word == root {
                let paths = tree(&self.code, at + word.len());
                if before == "use" || paths.iter().any(|(_, path)| !path.is_empty()) {
                    found.extend(
                        paths
                            .into_iter()
                            .map(|(at, path)| Mention { line: self.line(at - 1), path }),
                    );
                }
            }
            before = word;
        }
        found
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The words of `code` and where each begins.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split(|c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

/// The paths that go on at `at`, where a name has just ended, and where each of them ends.
fn tree(code: &str, at: usize) -> Vec<(usize, Vec<String>)> {
    let rest = code[at..].trim_start();
    let Some(rest) = rest.strip_prefix("::").map(str::trim_start) else {
        return vec![(at, Vec::new())];
    };
    let at = code.len() - rest.len();
    if let Some(group) = rest.strip_prefix('{') {
        return branches(group).flat_map(|(offset, _)| name(code, at + 1 + offset)).collect();
    }
    name(code, at)
}

/// The paths that begin with the name at `at`.
fn name(code: &str, at: usize) -> Vec<(usize, Vec<String>)> {
    let rest = &code[at..];
    if rest.starts_with('*') {
        return vec![(at + 1, vec!["*".to_owned()])];
    }
    let name = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
    let mut paths = tree(code, at + name.len());
    if !name.is_empty() && name != "self" {
        for (_, path) in &mut paths {
            path.insert(0, name.to_owned());
        }
    }
    paths
}

/// The parts of a `{a, b::{c, d}}` group, given all that follows its brace, and where each begins.
fn branches(group: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut depth = 1;
    let end = group.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    });
    let group = &group[..end.unwrap_or(group.len())];
    let mut depth = 0;
    group
        .split(move |c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        })
        .map(str::trim_start)
        .filter(|part| !part.is_empty())
        .map(move |part| (part.as_ptr() as usize - group.as_ptr() as usize, part))
}

fn code_only(text: &str) -> String {
    let text: Vec<char> = text.chars().collect();
    let mut code = String::new();
    let mut at = 0;
    while at < text.len() {
        let opaque = opaque(&text[at..]).min(text.len() - at);
        code.extend(text[at..at + opaque].iter().map(|&c| if c == '\n' { c } else { ' ' }));
        at += opaque;
        if opaque == 0 {
            code.push(text[at]);
            at += 1;
        }
    }
    code
}

/// How many characters the comment or literal takes that `rest` begins with; 0 if there is none.
fn opaque(rest: &[char]) -> usize {
    let until = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        let found = rest[from..].windows(end.len()).position(|window| window == end);
        found.map_or(rest.len(), |position| from + position + end.len())
    };
    match rest {
        ['/', '/', ..] => until(2, "\n") - 1,
        ['/', '*', ..] => until(2, "*/"),
        ['\'', '\\', _, ..] => until(3, "'"),
        ['\'', _, '\'', ..] => 3,
        ['"', ..] => {
            let mut escaped = false;
            let end = rest[1..].iter().position(|&c| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            });
            end.map_or(rest.len(), |end| end + 2)
        }
        ['r', following @ ..] => {
            let hashes = following.iter().take_while(|&&c| c == '#').count();
            let raw = following.get(hashes) == Some(&'"');
            if raw { until(2 + hashes, &format!("\"{}", "#".repeat(hashes))) } else { 0 }
        }
        _ => 0,
    }
}

#[test]
fn a_source_is_read_without_its_comments_and_literals() {
    let text = "/* unsafe */ let a = \"unsafe \\\" unsafe\"; // unsafe\nlet 'a: b = ('\"', '\\'', \
                r#\"unsafe \" unsafe\"#);\nunsafe {}";
    assert_eq!(Source::new("a.rs", text).lines_with("unsafe"), [3]);
}

#[test]
fn groups_of_imports_are_spelled_out_with_their_lines() {
    let text = "use crate::{\n    a::{self, B},\n    c as d,\n};\nlet x = crate::e::<f>::g();\n\
                pub(crate) fn f() {}\nuse crate::*;";
    let found: Vec<_> = Source::new("a.rs", text)
        .mentions("crate")
        .into_iter()
        .map(|m| (m.line, m.path.join("::")))
        .collect();
    let expected = [(2, "a"), (2, "a::B"), (3, "c"), (5, "e"), (7, "*")];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}
