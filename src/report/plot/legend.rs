//! The legend of a figure.
//!
//! The legend is below the axes: it covers no data however many names there are.

use super::figure::{Figure, Style};
use super::frame::WIDTH;
use super::markup::Element;
use super::references::muted;
use super::style::{cut, dashes, filled, marker, stroked, text, width_of};

const SIZE: f64 = 12.0;
const ROW: f64 = 20.0;
const LEFT: f64 = 24.0;
/// Of the sample of a line.
const SAMPLE: f64 = 30.0;
/// More names would hide the figure above them.
const MOST: usize = 24;

/// The legend below `top`, and where it ends. A single series needs none: the title names it.
pub(super) fn legend(figure: &Figure, top: f64) -> (Vec<Element>, f64) {
    let series = figure.series.iter().enumerate().map(|(at, series)| {
        let sample: fn(usize, Style, f64, f64) -> Vec<Element> = series_sample;
        (series.name.as_str(), sample, at, series.style)
    });
    let references = figure.references.iter().enumerate().map(|(at, reference)| {
        let sample: fn(usize, Style, f64, f64) -> Vec<Element> = reference_sample;
        (reference.name.as_str(), sample, at, Style::Line)
    });
    let entries: Vec<_> = series.chain(references).collect();
    if entries.len() < 2 {
        return (Vec::new(), top + 6.0);
    }
    let room = WIDTH - 2.0 * LEFT;
    let widths = entries.iter().map(|entry| width_of(entry.0, SIZE) + SAMPLE + 24.0);
    let columns = (room / widths.fold(1.0, f64::max)).floor().clamp(1.0, 4.0);
    let column = room / columns;
    let mut drawn = Vec::new();
    for (place, (name, sample, at, style)) in entries.iter().take(MOST).enumerate() {
        let x = LEFT + (place % columns as usize) as f64 * column;
        let y = top + 14.0 + (place / columns as usize) as f64 * ROW;
        drawn.extend(sample(*at, *style, x, y));
        let name = cut(name, column - SAMPLE - 14.0, SIZE);
        drawn.push(text(&name, x + SAMPLE + 8.0, y + 4.0, SIZE, "start"));
    }
    let rows = entries.len().min(MOST).div_ceil(columns as usize) as f64;
    let end = top + rows * ROW + 14.0;
    if entries.len() > MOST {
        let more = format!("and {} more", entries.len() - MOST);
        drawn.push(text(&more, LEFT, end + 6.0, SIZE, "start"));
    }
    (drawn, if entries.len() > MOST { end + ROW } else { end })
}

fn series_sample(at: usize, style: Style, x: f64, y: f64) -> Vec<Element> {
    let line = || {
        let line = stroked(Element::new("line"), at).set("stroke-width", 1.8);
        let line = line.set("stroke-dasharray", dashes(at));
        line.at("x1", x).at("y1", y).at("x2", x + SAMPLE).at("y2", y)
    };
    let mark = || marker(at, x + SAMPLE / 2.0, y);
    match style {
        Style::Line | Style::Steps | Style::Band => vec![line()],
        Style::Markers => vec![mark()],
        Style::LineMarkers => vec![line(), mark()],
        Style::Bars => {
            let bar = filled(Element::new("rect"), at).at("x", x + 8.0).at("y", y - 6.0);
            vec![bar.set("width", 14).set("height", 12)]
        }
    }
}

fn reference_sample(at: usize, _: Style, x: f64, y: f64) -> Vec<Element> {
    let line = muted(Element::new("line"), at);
    vec![line.at("x1", x).at("y1", y).at("x2", x + SAMPLE).at("y2", y)]
}
