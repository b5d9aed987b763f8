//! Which file defines what a path leads to: modules, their names, and names they hand on.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, ItemMod};

use super::source::{Mention, Source, is_for_tests};

/// The root of `src/main.rs`, which is a crate of its own.
const PROGRAM: &str = "<main>";
/// What the program calls the library.
const LIBRARY: &str = "factorexe";

/// One file takes something from another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    pub from: String,
    pub line: usize,
    /// The file that defines it, whoever handed it on.
    pub to: String,
    pub name: String,
    /// Whether a `mod.rs` only hands it on: no import of its own, and still one that may not rise.
    pub is_handed_on: bool,
    /// Whether it is taken for tests alone.
    pub is_for_tests: bool,
}

/// All modules of the crate.
pub struct House {
    modules: BTreeMap<Vec<String>, Module>,
    /// Modules that are compiled for tests alone.
    tests: BTreeSet<Vec<String>>,
    taken: Vec<Taken>,
    lost: Vec<String>,
}

#[derive(Default)]
struct Module {
    file: String,
    names: BTreeMap<String, Vec<Name>>,
    /// What `use path::*` brings.
    globs: Vec<Vec<String>>,
}

/// What a name of a module stands for.
#[derive(Clone)]
enum Name {
    /// An item of this very file that may have parts: variants, functions of its own.
    Type,
    /// An item of this very file that has none.
    Value,
    Module,
    /// What this path leads to.
    Import(Vec<String>),
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Item { file: String, name: String },
    Module(Vec<String>),
}

/// The imports, by module and name, that a search is following: none is followed through itself, as
/// `use norm::norm` would be.
type Open = BTreeSet<(Vec<String>, String)>;

impl House {
    pub fn new(sources: &[Source]) -> Self {
        let mut house =
            Self { modules: BTreeMap::new(), tests: BTreeSet::new(), taken: vec![], lost: vec![] };
        let mentions: Vec<_> = sources
            .iter()
            .map(|source| (source, module_of(&source.path), source.mentions()))
            .collect();
        for (source, module, mentions) in &mentions {
            house.declare(module, &source.path, &source.tree().items);
            house.import(module, mentions);
        }
        for (source, module, mentions) in &mentions {
            for mention in mentions {
                house.follow(source, &[&module[..], &mention.inside].concat(), mention);
            }
        }
        house.taken.sort();
        house.taken.dedup();
        house
    }

    /// Everything that a file takes from another one.
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }

    /// Paths within the crate that lead nowhere, which this reading is too simple for.
    pub fn lost(&self) -> &[String] {
        &self.lost
    }

    fn declare(&mut self, module: &[String], file: &str, items: &[Item]) {
        if let Some((own, outer)) = module.split_last() {
            self.name(outer, own, Name::Module);
        }
        file.clone_into(&mut self.modules.entry(module.to_vec()).or_default().file);
        for item in items {
            if let Item::Mod(ItemMod { ident, content, attrs, .. }) = item {
                let inner = [module, &[ident.to_string()]].concat();
                if is_for_tests(attrs) {
                    self.tests.insert(inner.clone());
                }
                if let Some((_, items)) = content {
                    self.declare(&inner, file, items);
                }
            } else if let Some((name, what)) = defined(item) {
                self.name(module, &name, what);
            }
        }
    }

    fn import(&mut self, module: &[String], mentions: &[Mention]) {
        for mention in mentions {
            let Some(import) = &mention.import else { continue };
            let module = [module, &mention.inside].concat();
            match (&import.name, mention.path.split_last()) {
                (Some(name), _) => {
                    self.name(&module, name, Name::Import(mention.path.clone()));
                }
                (None, Some((last, path))) if last == "*" => {
                    self.modules.entry(module).or_default().globs.push(path.to_vec());
                }
                _ => {}
            }
        }
    }

    fn name(&mut self, module: &[String], name: &str, what: Name) {
        let module = self.modules.entry(module.to_vec()).or_default();
        module.names.entry(name.to_owned()).or_default().push(what);
    }

    /// Counts what a path that stands in `module` takes from other files.
    fn follow(&mut self, source: &Source, module: &[String], mention: &Mention) {
        let is_handed_on = is_list(&source.path)
            && mention.import.as_ref().is_some_and(|import| import.is_reexport);
        let is_glob = mention.path.last().is_some_and(|last| last == "*");
        let path = &mention.path[..mention.path.len() - usize::from(is_glob)];
        let places = self.resolve(module, path, &mut Open::new());
        let first = path.first().map_or("", String::as_str);
        if places.is_empty() && path.len() > 1 && ["crate", "super", LIBRARY].contains(&first) {
            let path = mention.path.join("::");
            self.lost.push(format!("{}:{}: `{path}` leads nowhere", source.path, mention.line));
        }
        for place in places {
            let (to, name) = match place {
                Place::Item { file, name } => (file, name),
                // A folder is not a file: what is taken from it is found behind it.
                Place::Module(at) if self.is_folder(&at) => continue,
                Place::Module(at) => {
                    let name = at.last().cloned().unwrap_or_default();
                    let name = if is_glob { format!("{name}::*") } else { name };
                    (self.modules[&at].file.clone(), name)
                }
            };
            if to != source.path {
                let (from, line) = (source.path.clone(), mention.line);
                let is_for_tests = mention.is_test || self.tests.contains(module);
                self.taken.push(Taken { from, line, to, name, is_handed_on, is_for_tests });
            }
        }
    }

    fn is_folder(&self, module: &[String]) -> bool {
        let file = self.modules.get(module).map_or("", |module| module.file.as_str());
        is_list(file) || file.is_empty()
    }

    /// Where a path leads that stands in `module`; to several places where a module and an item have
    /// the same name, to none outside the crate.
    fn resolve(&self, module: &[String], path: &[String], open: &mut Open) -> BTreeSet<Place> {
        let Some((first, rest)) = path.split_first() else { return BTreeSet::new() };
        match first.as_str() {
            "crate" if module.first().is_some_and(|root| root == PROGRAM) => {
                self.walk(&[PROGRAM.to_owned()], rest, open)
            }
            "crate" | LIBRARY => self.walk(&[], rest, open),
            "self" | "super" if path.len() > 1 => self.walk(module, path, open),
            _ => self.walk(module, path, open),
        }
    }

    fn walk(&self, module: &[String], path: &[String], open: &mut Open) -> BTreeSet<Place> {
        let Some((first, rest)) = path.split_first() else {
            return BTreeSet::from([Place::Module(module.to_vec())]);
        };
        match first.as_str() {
            "self" => return self.walk(module, rest, open),
            "super" => {
                let outer = &module[..module.len().saturating_sub(1)];
                return self.walk(outer, rest, open);
            }
            _ => {}
        }
        let Some(here) = self.modules.get(module) else { return BTreeSet::new() };
        let mut places = BTreeSet::new();
        for name in here.names.get(first).into_iter().flatten() {
            match name {
                Name::Value if !rest.is_empty() => {}
                Name::Type | Name::Value => {
                    let (file, name) = (here.file.clone(), first.clone());
                    places.insert(Place::Item { file, name });
                }
                Name::Module => {
                    let inner = [module, std::slice::from_ref(first)].concat();
                    places.extend(self.walk(&inner, rest, open));
                }
                Name::Import(target) => {
                    // What a folder hands on is taken from behind it, what a file hands on from both.
                    if !self.is_folder(module) {
                        let (file, name) = (here.file.clone(), first.clone());
                        places.insert(Place::Item { file, name });
                    }
                    places.extend(self.through((module, first), target, rest, open));
                }
            }
        }
        if places.is_empty() {
            for glob in &here.globs {
                let name = glob.join("::") + "::*";
                places.extend(self.through((module, &name), glob, path, open));
            }
        }
        places
    }

    /// What is at `rest` behind an import of `target`.
    fn through(
        &self,
        (module, name): (&[String], &str),
        target: &[String],
        rest: &[String],
        open: &mut Open,
    ) -> BTreeSet<Place> {
        let key = (module.to_vec(), name.to_owned());
        if !open.insert(key.clone()) {
            return BTreeSet::new();
        }
        let places = self.resolve(module, &[target, rest].concat(), open);
        open.remove(&key);
        places
    }
}

/// Whether a file lists what is behind it.
fn is_list(path: &str) -> bool {
    path.ends_with("/mod.rs") || path == "src/lib.rs"
}

/// `src/nn/norm.rs` is `nn::norm`, `src/nn/mod.rs` is `nn`, `src/lib.rs` is the root.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    match inside {
        "lib" => vec![],
        "main" => vec![PROGRAM.to_owned()],
        _ => inside.trim_end_matches("/mod").split('/').map(str::to_owned).collect(),
    }
}

/// The name that an item gives to its module.
fn defined(item: &Item) -> Option<(String, Name)> {
    let (ident, what) = match item {
        Item::Const(item) => (&item.ident, Name::Value),
        Item::Fn(item) => (&item.sig.ident, Name::Value),
        Item::Macro(item) => (item.ident.as_ref()?, Name::Value),
        Item::Static(item) => (&item.ident, Name::Value),
        Item::Enum(item) => (&item.ident, Name::Type),
        Item::Struct(item) => (&item.ident, Name::Type),
        Item::Trait(item) => (&item.ident, Name::Type),
        Item::TraitAlias(item) => (&item.ident, Name::Type),
        Item::Type(item) => (&item.ident, Name::Type),
        Item::Union(item) => (&item.ident, Name::Type),
        _ => return None,
    };
    Some((ident.to_string(), what))
}

#[test]
fn what_is_taken_is_followed_to_the_file_that_defines_it() {
    let tree = [
        Source::new(
            "src/lib.rs",
            "pub mod a;\npub mod b;\npub mod c;\npub use b::inner::{Deep, deep as d};",
        ),
        Source::new(
            "src/a.rs",
            "use crate::{Deep, b::{self, *}};\nuse super::c as other;\n\
            fn f() -> crate::d { b::inner::deep(); other::C::new(); Shallow; vec![other::c()] }\n\
            mod tests { use super::*; fn g() { Deep; super::super::c::c() } }",
        ),
        Source::new(
            "src/b/mod.rs",
            "pub mod inner;\npub mod shallow;\npub use shallow::{Shallow, shallow};\nuse super::c::C;\n\
            pub fn own() {}",
        ),
        Source::new("src/b/inner.rs", "pub struct Deep; pub fn deep() {}"),
        Source::new(
            "src/b/shallow.rs",
            "use super::{inner, own};\npub struct Shallow;\npub fn shallow() {}\n\
            impl From<inner::Deep> for Shallow {}",
        ),
        Source::new(
            "src/c.rs",
            "use std::fmt;\nuse crate::gone::Gone;\npub enum C { New }\npub fn c() -> C { C::New }",
        ),
        Source::new(
            "src/main.rs",
            "use factorexe::b::shallow;\nfn main() { shallow(); crate::main() }",
        ),
    ];
    let house = House::new(&tree);
    let found: Vec<_> = house
        .taken()
        .iter()
        .filter(|taken| !taken.is_handed_on)
        .map(|t| format!("{}:{} {} {}", &t.from[4..], t.line, &t.to[4..], t.name))
        .collect();
    let expected = [
        "a.rs:1 b/inner.rs Deep",
        "a.rs:2 c.rs c",
        "a.rs:3 b/inner.rs deep",
        "a.rs:3 b/shallow.rs Shallow",
        "a.rs:3 c.rs C",
        "a.rs:3 c.rs c",
        "a.rs:4 b/inner.rs Deep",
        "a.rs:4 c.rs c",
        "b/mod.rs:4 c.rs C",
        "b/shallow.rs:1 b/inner.rs inner",
        "b/shallow.rs:1 b/mod.rs own",
        "b/shallow.rs:4 b/inner.rs Deep",
        "main.rs:1 b/shallow.rs shallow",
        "main.rs:2 b/shallow.rs shallow",
    ];
    assert_eq!(found, expected);
    assert_eq!(house.lost(), ["src/c.rs:2: `crate::gone::Gone` leads nowhere"]);
}
