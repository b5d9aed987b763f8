//! Colours, dashes and markers of a figure.
//!
//! By colour and by shape, so that neither is needed. The colours are given as attributes for
//! pictures that stand alone; the classes let a page give others on a dark ground.

use super::markup::Element;

/// Safe for the colour-blind: Okabe and Ito, "Color Universal Design", 2008, without the yellow,
/// which is too pale on white.
const PALETTE: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Of text and axes.
pub(super) const INK: &str = "#22262c";
/// Of reference lines.
pub(super) const MUTED: &str = "#6a717c";
/// Of the lines behind the data.
pub(super) const GRID: &str = "#dfe3e8";
/// Behind all.
pub(super) const GROUND: &str = "#ffffff";

/// A line in the colour of a series.
pub(super) fn stroked(element: Element, series: usize) -> Element {
    let colour = series % PALETTE.len();
    element.set("class", format!("s{colour}")).set("stroke", PALETTE[colour])
}

/// A surface in the colour of a series.
pub(super) fn filled(element: Element, series: usize) -> Element {
    let colour = series % PALETTE.len();
    element.set("class", format!("f{colour}")).set("fill", PALETTE[colour])
}

/// Lines of series that share a colour differ in their dashes.
pub(super) fn dashes(series: usize) -> &'static str {
    ["none", "7 3", "2 3", "9 3 2 3"][(series / PALETTE.len()) % 4]
}

/// Every reference line has dashes; they differ from one to the next.
pub(super) fn reference_dashes(reference: usize) -> &'static str {
    ["6 4", "2 3", "10 3 2 3", "12 5", "1 2"][reference % 5]
}

/// The mark of a series at a place. Seven shapes, shifted by one whenever the colours repeat: 49
/// series differ.
pub(super) fn marker(series: usize, x: f64, y: f64) -> Element {
    let shape = (series + series / PALETTE.len()) % 7;
    if shape == 0 {
        let circle = Element::new("circle").at("cx", x).at("cy", y).set("r", 4.2);
        return filled(circle, series);
    }
    let corners: &[(f64, f64)] = match shape {
        1 => &[(-3.8, -3.8), (3.8, -3.8), (3.8, 3.8), (-3.8, 3.8)],
        2 => &[(0.0, -5.2), (4.8, 3.6), (-4.8, 3.6)],
        3 => &[(0.0, -5.4), (5.4, 0.0), (0.0, 5.4), (-5.4, 0.0)],
        4 => &[(0.0, 5.2), (4.8, -3.6), (-4.8, -3.6)],
        5 => &[(0.0, -5.2), (5.0, -1.5), (3.1, 4.3), (-3.1, 4.3), (-5.0, -1.5)],
        _ => &[(-5.4, -2.2), (5.4, -2.2), (5.4, 2.2), (-5.4, 2.2)],
    };
    let path: Vec<String> =
        corners.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
    filled(Element::new("polygon").set("points", path.join(" ")), series)
}

/// Text of a size in pixels, around, before or after its place.
pub(super) fn text(text: &str, x: f64, y: f64, size: f64, anchor: &str) -> Element {
    let element = Element::new("text").set("class", "ink").set("fill", INK);
    element.at("x", x).at("y", y).set("font-size", size).set("text-anchor", anchor).text(text)
}

/// How wide a text is, about: a letter of the fonts in use takes 0.6 of the size on average.
pub(super) fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.6
}

/// The beginning of a text that has to fit.
pub(super) fn cut(text: &str, width: f64, size: f64) -> String {
    let most = ((width / (size * 0.6)) as usize).max(2);
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
