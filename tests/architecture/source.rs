//! The words of a source file and the paths it names, read from its syntax tree.

use std::{fs, path::Path};

use proc_macro2::{Ident, Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, ItemFn, ItemImpl, ItemMod, ItemUse, Macro, UseTree, Visibility};

/// One file of the crate, or one made up for a test.
pub struct Source {
    /// From the root of the repository, with `/`: `src/nn/norm.rs`.
    pub path: String,
    pub text: String,
}

/// A path that a file names, as in `crate::nn::{ops, params::Params}`, spelled out.
#[derive(Debug, Clone, PartialEq)]
pub struct Mention {
    pub line: usize,
    /// The inline modules it stands in, from the outside.
    pub inside: Vec<String>,
    /// Its segments; `*` ends that of a glob, and `self` at the end is left out.
    pub path: Vec<String>,
    /// The import that names it; none of a path within code.
    pub import: Option<Import>,
    /// Whether only tests are compiled with it.
    pub is_test: bool,
}

/// How a path is imported.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// What it is called here; none of a glob and of `as _`.
    pub name: Option<String>,
    /// Whether others may take it from here.
    pub is_reexport: bool,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
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

    /// The syntax tree.
    pub fn tree(&self) -> syn::File {
        syn::parse_file(&self.text).unwrap_or_else(|error| {
            panic!("{}:{}: {error}", self.path, error.span().start().line);
        })
    }

    /// The lines (counted from 1) on which `word` stands in code: not in a comment, not in a text.
    pub fn lines_with(&self, word: &str) -> Vec<usize> {
        let tokens: TokenStream = self.text.parse().unwrap_or_else(|error| {
            panic!("{}: {error}", self.path);
        });
        let mut lines = Vec::new();
        each_ident(tokens, &mut |ident| {
            if ident == word {
                lines.push(line(ident));
            }
        });
        lines
    }

    /// Every path the file names.
    pub fn mentions(&self) -> Vec<Mention> {
        let mut reader = Reader::default();
        reader.visit_file(&self.tree());
        reader.found
    }
}

fn line(spanned: &impl Spanned) -> usize {
    spanned.span().start().line
}

fn each_ident(tokens: TokenStream, look: &mut impl FnMut(&Ident)) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => look(&ident),
            TokenTree::Group(group) => each_ident(group.stream(), look),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Whether what bears these attributes is compiled for tests alone.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        matches!(&attribute.meta, syn::Meta::List(list)
            if list.path.is_ident("cfg") && list.tokens.to_string() == "test")
    })
}

#[derive(Default)]
struct Reader {
    inside: Vec<String>,
    is_test: bool,
    found: Vec<Mention>,
}

impl Reader {
    fn add(&mut self, line: usize, path: Vec<String>, import: Option<Import>) {
        let (inside, is_test) = (self.inside.clone(), self.is_test);
        self.found.push(Mention { line, inside, path, import, is_test });
    }

    /// Reads a part that bears these attributes.
    fn within(&mut self, attributes: &[Attribute], read: impl FnOnce(&mut Self)) {
        let outer = self.is_test;
        self.is_test |= is_for_tests(attributes);
        read(self);
        self.is_test = outer;
    }

    /// The leaves of an import, each with all that stands before it.
    fn leaves(&mut self, tree: &UseTree, before: &[String], is_reexport: bool) {
        let with = |name: &Ident| [before, &[name.to_string()]].concat();
        let import = |name: Option<String>| Some(Import { name, is_reexport });
        match tree {
            UseTree::Path(path) => self.leaves(&path.tree, &with(&path.ident), is_reexport),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.leaves(tree, before, is_reexport));
            }
            UseTree::Name(name) if name.ident == "self" => {
                self.add(line(name), before.to_vec(), import(before.last().cloned()));
            }
            UseTree::Name(name) => {
                self.add(line(name), with(&name.ident), import(Some(name.ident.to_string())));
            }
            UseTree::Rename(renamed) => {
                let own = renamed.ident == "self";
                let path = if own { before.to_vec() } else { with(&renamed.ident) };
                let name = Some(renamed.rename.to_string()).filter(|name| name != "_");
                self.add(line(renamed), path, import(name));
            }
            UseTree::Glob(glob) => {
                let path = [before, &["*".to_owned()]].concat();
                self.add(line(glob), path, import(None));
            }
        }
    }

    /// Paths of two segments or more among tokens that are no syntax yet: those of macros.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let TokenTree::Group(group) = &tokens[at] {
                self.tokens(group.stream());
            }
            let (path, length) = path_of(&tokens[at..]);
            if path.len() > 1 {
                self.add(line(&tokens[at]), path, None);
            }
            at += length.max(1);
        }
    }
}

/// The path that `tokens` begin with, and how many of them it takes.
fn path_of(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    let mut at = 0;
    while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
        path.push(ident.to_string());
        at += 1;
        let colon = |token: Option<&TokenTree>, spacing: Spacing| {
            matches!(token, Some(TokenTree::Punct(punct))
                if punct.as_char() == ':' && punct.spacing() == spacing)
        };
        let continues = colon(tokens.get(at), Spacing::Joint)
            && tokens.get(at + 1).is_some_and(
                |token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':'),
            )
            && matches!(tokens.get(at + 2), Some(TokenTree::Ident(_)));
        if !continues {
            break;
        }
        at += 2;
    }
    (path, at)
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        self.within(&item.attrs, |reader| reader.leaves(&item.tree, &[], is_reexport));
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.inside.push(item.ident.to_string());
        self.within(&item.attrs, |reader| visit::visit_item_mod(reader, item));
        self.inside.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.within(&item.attrs, |reader| visit::visit_item_fn(reader, item));
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.within(&item.attrs, |reader| visit::visit_item_impl(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.within(&item.attrs, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(line(path), segments, None);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, code: &'ast Macro) {
        self.visit_path(&code.path);
        self.tokens(code.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    // `pub(super)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

#[test]
fn a_source_is_read_without_its_comments_and_literals() {
    let text = "/* unsafe */ const A: &str = \"unsafe \\\" unsafe\"; // unsafe\n\
                const B: (char, &str) = ('\"', r#\"unsafe \" unsafe\"#);\nfn f() { unsafe {} }";
    assert_eq!(Source::new("a.rs", text).lines_with("unsafe"), [3]);
}

#[test]
fn paths_are_spelled_out_with_their_lines() {
    let text = "use crate::{\n    a::{self, B},\n    c as d,\n};\n\
                pub(crate) fn f() { crate::e::<F>::g(1) }\npub use crate::*;\n\
                #[cfg(test)] mod tests {\n    fn h(&self) { assert!(super::i::J(k::l())) }\n}";
    let found: Vec<_> = Source::new("a.rs", text)
        .mentions()
        .into_iter()
        .map(|m| {
            assert_eq!(m.is_test, m.line == 8);
            (m.line, m.inside.join("::"), m.path.join("::"), m.import)
        })
        .collect();
    let import = |name: &str, is_reexport: bool| {
        Some(Import { name: Some(name.to_owned()).filter(|name| name != "*"), is_reexport })
    };
    let expected = [
        (2, "", "crate::a", import("a", false)),
        (2, "", "crate::a::B", import("B", false)),
        (3, "", "crate::c", import("d", false)),
        (5, "", "crate::e::g", None),
        (5, "", "F", None),
        (6, "", "crate::*", import("*", true)),
        (8, "tests", "assert", None),
        (8, "tests", "super::i::J", None),
        (8, "tests", "k::l", None),
    ];
    let expected = expected
        .map(|(line, inside, path, import)| (line, inside.to_owned(), path.to_owned(), import));
    assert_eq!(found, expected);
}
