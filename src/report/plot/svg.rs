//! A figure as an SVG document.

use super::figure::Figure;
use super::frame::{Frame, WIDTH, is_drawn};
use super::legend::legend;
use super::marks::marks;
use super::markup::Element;
use super::references::references;
use super::style::{GROUND, cut, text};

/// Of the title.
const LARGE: f64 = 15.0;

/// The picture of a figure, which stands alone or in a page. Without data it says so.
#[must_use]
pub fn svg(figure: &Figure) -> String {
    let (body, height) = match Frame::of(figure) {
        Some(frame) => drawn(figure, &frame),
        None => (vec![text("no data yet", WIDTH / 2.0, 110.0, LARGE, "middle")], 180.0),
    };
    let ground = Element::new("rect").set("class", "ground").set("fill", GROUND);
    let title = cut(&figure.title, WIDTH - 40.0, LARGE);
    Element::new("svg")
        .set("xmlns", "http://www.w3.org/2000/svg")
        .set("viewBox", format!("0 0 {WIDTH} {height:.0}"))
        .set("width", WIDTH)
        .set("height", format!("{height:.0}"))
        .set("font-family", "DejaVu Sans, Verdana, sans-serif")
        .set("role", "img")
        .set("aria-label", &figure.title)
        .child(ground.set("width", WIDTH).set("height", format!("{height:.0}")))
        .child(text(&title, 20.0, 26.0, LARGE, "start"))
        .children(body)
        .finish()
}

/// What is below the title, and where it ends.
fn drawn(figure: &Figure, frame: &Frame) -> (Vec<Element>, f64) {
    let mut body = frame.axes();
    body.push(references(figure, frame));
    body.extend(marks(figure, frame));
    let (names, mut end) = legend(figure, frame.end);
    body.extend(names);
    let points = || figure.series.iter().flat_map(|series| &series.points);
    let left_out = points().filter(|point| !is_drawn(figure, point)).count();
    if left_out > 0 {
        let told = format!(
            "not drawn: {left_out} of {} points, which are unknown or have no place on these axes",
            points().count()
        );
        body.push(text(&told, 24.0, end + 8.0, 11.0, "start"));
        end += 20.0;
    }
    (body, end)
}
