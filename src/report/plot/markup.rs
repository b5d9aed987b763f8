//! XML elements with escaped text.
//!
//! Every attribute and every text of an [`Element`] is escaped when it is set: there is no way
//! around it. What it writes is both XML and HTML.

use std::fmt::Display;

/// An element that is being written.
#[derive(Debug, Clone)]
pub struct Element {
    name: &'static str,
    attributes: String,
    inside: String,
}

impl Element {
    /// `<name></name>`.
    pub fn new(name: &'static str) -> Self {
        Self { name, attributes: String::new(), inside: String::new() }
    }

    /// With an attribute; the value is escaped.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.attributes.extend([" ", key, "=\"", &escape(&value.to_string()), "\""]);
        self
    }

    /// With an attribute that is a length on the picture, to a hundredth.
    #[must_use]
    pub fn at(self, key: &str, length: f64) -> Self {
        self.set(key, (length * 100.0).round() / 100.0)
    }

    /// With text at the end; it is escaped.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.inside += &escape(text);
        self
    }

    /// With an element at the end.
    #[must_use]
    pub fn child(mut self, child: Self) -> Self {
        self.inside += &child.finish();
        self
    }

    /// With elements at the end.
    #[must_use]
    pub fn children(self, children: impl IntoIterator<Item = Self>) -> Self {
        children.into_iter().fold(self, Self::child)
    }

    /// With a picture at the end, which is markup already.
    #[must_use]
    pub(in super::super) fn picture(mut self, svg: &str) -> Self {
        self.inside += svg;
        self
    }

    /// As text.
    #[must_use]
    pub fn finish(self) -> String {
        let Self { name, attributes, inside } = self;
        format!("<{name}{attributes}>{inside}</{name}>")
    }
}

/// Text that is read as text, in elements and in quoted attributes. Characters that XML 1.0
/// forbids (its production `Char`) are replaced.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                escaped.push('\u{fffd}');
            }
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}
