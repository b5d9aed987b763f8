//! Assembly of a self-contained HTML page.
//!
//! One file that asks for nothing: no scripts, and its policy forbids every request.

use super::plot::{Element, Figure, svg};
use super::table::Table;

/// A part of the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Above it.
    pub title: String,
    /// From top to bottom.
    pub items: Vec<Item>,
}

/// A piece of a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Above the pieces that follow.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A paragraph that must not be missed.
    Note(String),
    /// The numbers that matter most, each with what it is.
    Numbers(Vec<(String, String)>),
    /// A picture and what it shows.
    Figure(Box<Figure>, String),
    /// A table; one without rows, or shown on request alone, is left out by the page.
    Table(Table),
    /// What it is, and text that was typed or printed.
    Verbatim(String, String),
}

impl Item {
    /// A picture and what it shows.
    #[must_use]
    pub fn figure(figure: Figure, caption: &str) -> Self {
        Self::Figure(Box::new(figure), caption.to_owned())
    }
}

/// The whole page.
#[must_use]
pub fn html(title: &str, sections: &[Section]) -> String {
    // `default-src 'none'`: https://www.w3.org/TR/CSP3/#directive-default-src. The icon is empty,
    // so that a browser does not ask the server for one.
    const HEAD: &str = "<meta charset=\"utf-8\">\n\
        <meta http-equiv=\"Content-Security-Policy\" \
        content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <link rel=\"icon\" href=\"data:,\">";
    let style = include_str!("page.css");
    let name = Element::new("title").text(title).finish();
    let top = Element::new("h1").text(title);
    let body = Element::new("body").child(top).children(sections.iter().map(section)).finish();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n{HEAD}\n{name}\n<style>\n{style}</style>\n\
         </head>\n{body}\n</html>\n"
    )
}

fn section(section: &Section) -> Element {
    let title = Element::new("h2").text(&section.title);
    Element::new("section").child(title).children(section.items.iter().filter_map(item))
}

fn item(item: &Item) -> Option<Element> {
    Some(match item {
        Item::Heading(text) => Element::new("h3").text(text),
        Item::Text(text) => Element::new("p").text(text),
        Item::Note(text) => Element::new("p").set("class", "note").text(text),
        Item::Numbers(numbers) => {
            Element::new("dl").set("class", "numbers").children(numbers.iter().map(number))
        }
        Item::Figure(figure, caption) => picture(figure, caption),
        Item::Table(table) if table.is_empty() || table.on_request => return None,
        Item::Table(table) => Element::new("div").set("class", "wide").child(table.element()),
        Item::Verbatim(_, text) if text.trim().is_empty() => return None,
        Item::Verbatim(name, text) => {
            let heading = Element::new("h3").text(name);
            Element::new("div").child(heading).child(Element::new("pre").text(text))
        }
    })
}

fn number((name, value): &(String, String)) -> Element {
    let (name, value) = (Element::new("dt").text(name), Element::new("dd").text(value));
    Element::new("div").child(name).child(value)
}

fn picture(figure: &Figure, caption: &str) -> Element {
    let link = |ending: &str| {
        let path = format!("figures/{}.{ending}", figure.name);
        Element::new("a").set("href", path).text(&ending.to_uppercase())
    };
    let files = Element::new("span").set("class", "files").text(" As ");
    let files = files.child(link("svg")).text(" or ").child(link("png")).text(".");
    let caption = Element::new("figcaption").text(caption).child(files);
    Element::new("figure").picture(&svg(figure)).child(caption)
}
