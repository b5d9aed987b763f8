//! Reference lines of a figure, which are not measurements.

use super::figure::{Figure, Shape};
use super::frame::Frame;
use super::markup::Element;
use super::style::{MUTED, reference_dashes};

/// Steps of a line that may bend, from side to side.
const STEPS: usize = 64;

/// All reference lines, cut off at the frame.
pub(super) fn references(figure: &Figure, frame: &Frame) -> Element {
    let window = format!("{} {} {} {}", frame.left, frame.top, frame.width, frame.height);
    let lines = figure.references.iter().enumerate().map(|(at, reference)| {
        let path: Vec<String> = corners(&reference.shape, frame)
            .into_iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .map(|corner| frame.beyond(corner))
            .map(|(x, y)| format!("{x:.2},{y:.2}"))
            .collect();
        muted(Element::new("polyline"), at)
            .set("points", path.join(" "))
            .set("data-reference", &reference.name)
    });
    Element::new("svg")
        .at("x", frame.left)
        .at("y", frame.top)
        .at("width", frame.width)
        .at("height", frame.height)
        .set("viewBox", window)
        .children(lines)
}

/// A line as the reference at `at` has it.
pub(super) fn muted(line: Element, at: usize) -> Element {
    line.set("class", "muted")
        .set("stroke", MUTED)
        .set("fill", "none")
        .set("stroke-width", 1.5)
        .set("stroke-dasharray", reference_dashes(at))
}

fn corners(shape: &Shape, frame: &Frame) -> Vec<(f64, f64)> {
    let across = || (0..=STEPS).map(|step| frame.x_value(step as f64 / STEPS as f64));
    match shape {
        Shape::Level(y) => across().map(|x| (x, *y)).collect(),
        Shape::Upright(x) => {
            let (bottom, top) = frame.y_ends();
            vec![(*x, bottom), (*x, top)]
        }
        Shape::Power { exponent, through: (a, b) } => across()
            .filter(|x| *x > 0.0)
            .map(|x| (x, b * (x / a).powf(*exponent)))
            .filter(|(_, y)| *y > 0.0)
            .collect(),
        Shape::Curve(points) => points.clone(),
    }
}
