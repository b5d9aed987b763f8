//! Does a figure hold what it was given, and nothing else?

use factorexe::report::plot::{
    Axis, Figure, Point, Reference, Scale, Series, Shape, Style, short, slug, svg,
};
use proptest::prelude::*;
use resvg::usvg::roxmltree::{Document, Node};

use super::data::{HOSTILE, marks};

pub fn figure(scale: &Scale, style: Style, points: Vec<Point>) -> Figure {
    Figure {
        name: "f".into(),
        title: "Title".into(),
        x: Axis::new("across", scale.clone()),
        y: Axis::new("up", scale.clone()),
        series: vec![Series { name: "s".into(), style, points }],
        references: Vec::new(),
    }
}

fn number(node: &Node, name: &str) -> f64 {
    node.attribute(name).unwrap().parse().unwrap()
}

fn numbers(node: &Node, name: &str) -> Vec<f64> {
    node.attribute(name).unwrap().split_whitespace().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn each_mark_carries_its_numbers() {
    let exact = Point::new(1.0, 0.1);
    let closed = Point::censored(Some(2.0), Some(2.0), Some(8.0));
    let open = Point::censored(Some(4.0), Some(16.0), None);
    let text = svg(&figure(&Scale::Log2, Style::Markers, vec![exact, closed, open]));
    let document = Document::parse(&text).unwrap();
    let found = marks(&document, "s");
    assert_eq!(found.len(), 3);
    assert_eq!((number(&found[0], "data-x"), number(&found[0], "data-y")), (1.0, 0.1));
    assert_eq!(found[0].attribute("data-low"), None);
    // The geometric middle of 2 and 8.
    assert!((number(&found[1], "data-y") - 4.0).abs() < 1e-12);
    assert_eq!((number(&found[1], "data-low"), number(&found[1], "data-high")), (2.0, 8.0));
    assert_eq!(number(&found[2], "data-low"), 16.0);
    assert_eq!(found[2].attribute("data-high"), Some("open"));
}

#[test]
fn a_line_carries_lists_and_a_band_its_ends() {
    let points = vec![
        Point::new(1.0, 2.0).between(Some(1.5), Some(2.5)),
        Point::new(3.0, 4.0).between(Some(3.5), Some(4.5)),
    ];
    let text = svg(&figure(&Scale::Linear, Style::Band, points));
    let document = Document::parse(&text).unwrap();
    let found = marks(&document, "s");
    assert_eq!(numbers(&found[0], "data-low"), [1.5, 3.5]);
    assert_eq!(numbers(&found[0], "data-high"), [2.5, 4.5]);
    assert_eq!(numbers(&found[1], "data-x"), [1.0, 3.0]);
    assert_eq!(numbers(&found[1], "data-y"), [2.0, 4.0]);
}

#[test]
fn what_has_no_place_is_left_out_and_counted() {
    let points = [f64::NAN, f64::INFINITY, 0.0, -1.0, 1e300, 5.0].map(|y| Point::new(1.0, y));
    let text = svg(&figure(&Scale::Log10, Style::Markers, points.to_vec()));
    let document = Document::parse(&text).unwrap();
    let found = marks(&document, "s");
    assert_eq!(found.iter().map(|mark| number(mark, "data-y")).collect::<Vec<_>>(), [5.0]);
    assert!(text.contains("not drawn: 5 of 6 points"), "{text}");
}

#[test]
fn without_data_a_figure_says_so() {
    for points in [vec![], vec![Point::new(None, 1.0)]] {
        assert!(svg(&figure(&Scale::Linear, Style::Line, points)).contains("no data yet"));
    }
    assert!(
        !svg(&figure(&Scale::Linear, Style::Line, vec![Point::new(1.0, 1.0)])).contains("no data")
    );
}

#[test]
fn hostile_names_stay_text() {
    let name = format!("{HOSTILE}\u{0}\u{b}\u{ffff}");
    let mut hostile = figure(&Scale::Linear, Style::Markers, vec![Point::new(1.0, 1.0)]);
    hostile.title.clone_from(&name);
    hostile.series[0].name.clone_from(&name);
    hostile.series.push(hostile.series[0].clone());
    hostile.x.label.clone_from(&name);
    hostile.references.push(Reference { name: name.clone(), shape: Shape::Level(1.0) });
    let text = svg(&hostile);
    let document = Document::parse(&text).unwrap();
    assert!(
        document.descendants().all(|node| !["script", "img"].contains(&node.tag_name().name()))
    );
    assert_eq!(marks(&document, &format!("{HOSTILE}{0}{0}{0}", '\u{fffd}')).len(), 2);
}

#[test]
fn bars_stand_on_zero_and_carry_their_category() {
    let names = Scale::Categories(vec!["a".into(), "b & c".into()]);
    let mut bars = figure(&names, Style::Bars, vec![Point::new(0.0, 10.0), Point::new(1.0, 20.0)]);
    bars.y.scale = Scale::Linear;
    let text = svg(&bars);
    let document = Document::parse(&text).unwrap();
    let found = marks(&document, "s");
    let height = |mark: &Node| {
        number(&mark.children().find(|node| node.has_tag_name("rect")).unwrap(), "height")
    };
    // Lengths are written to a hundredth of a pixel.
    assert!((height(&found[1]) - 2.0 * height(&found[0])).abs() < 0.03);
    assert_eq!(found[1].attribute("data-x"), Some("b & c"));
}

#[test]
fn a_power_law_is_straight_between_ratios_and_meets_its_point() {
    let points = vec![Point::new(1.0, 1.0), Point::new(4.0, 16.0)];
    let mut figure = figure(&Scale::Log2, Style::Markers, points);
    let through = Shape::Power { exponent: 2.0, through: (1.0, 1.0) };
    figure.references.push(Reference { name: "slope 2".into(), shape: through });
    let text = svg(&figure);
    let document = Document::parse(&text).unwrap();
    let line = document.descendants().find(|node| node.has_tag_name("polyline")).unwrap();
    let corners: Vec<(f64, f64)> = line
        .attribute("points")
        .unwrap()
        .split(' ')
        .map(|corner| corner.split_once(',').unwrap())
        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        .collect();
    let [first, last] = [corners[0], *corners.last().unwrap()];
    let slope = (last.1 - first.1) / (last.0 - first.0);
    let off = |(x, y): (f64, f64)| (first.1 + slope * (x - first.0) - y).abs();
    // Lengths are written to a hundredth of a pixel.
    assert!(corners.iter().all(|&corner| off(corner) < 0.03));
    let circles = document.descendants().filter(|node| node.has_tag_name("circle"));
    let marks: Vec<_> = circles.map(|node| (number(&node, "cx"), number(&node, "cy"))).collect();
    assert!(marks.len() >= 2 && marks[..2].iter().all(|&mark| off(mark) < 0.03), "{marks:?}");
}

#[test]
fn numbers_read_shortly() {
    let read = [0.0, 0.46, 1234.0, 0.001_234_5, 2.5e9, -12.5, 99.999, f64::NAN].map(short);
    assert_eq!(read, ["0", "0.46", "1234", "0.00123", "2.5e9", "-12.5", "100", "not finite"]);
    assert_eq!(slug("../A  b/é<script>"), "a-b-script");
}

fn any_scale() -> impl Strategy<Value = Scale> {
    let names = Scale::Categories(vec!["a".into(), "b".into()]);
    prop::sample::select(vec![Scale::Linear, Scale::Log2, Scale::Log10, names])
}

fn any_style() -> impl Strategy<Value = Style> {
    use Style::{Band, Bars, Line, LineMarkers, Markers, Steps};
    prop::sample::select(vec![Line, Markers, LineMarkers, Steps, Band, Bars])
}

proptest! {
    #[test]
    fn any_numbers_give_a_picture_with_finite_lengths(
        scale in any_scale(),
        style in any_style(),
        numbers in prop::collection::vec(prop::array::uniform4(any::<f64>()), 0..6),
        exponent in any::<f64>(),
    ) {
        let points = numbers.iter().map(|&[x, y, low, high]| {
            Point::new(x, y).between(Some(low), Some(high))
        });
        let mut figure = figure(&scale, style, points.collect());
        let through = numbers.first().map_or((1.0, 1.0), |&[x, y, ..]| (x, y));
        figure.references.push(Reference { name: "p".into(), shape: Shape::Power { exponent, through } });
        let text = svg(&figure);
        let document = Document::parse(&text).unwrap();
        let drawn = document.descendants().flat_map(|node| node.attributes());
        for attribute in drawn.filter(|attribute| !attribute.name().starts_with("data-")) {
            let value = attribute.value();
            prop_assert!(!value.contains("NaN") && !value.contains("inf"), "{}", value);
        }
        prop_assert!(text.len() < 60_000);
    }
}
