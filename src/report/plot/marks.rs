//! Marks of a series; each mark keeps its values in the SVG.
//!
//! A mark carries what it shows: `data-series`, `data-x`, `data-y`, `data-low` and `data-high`
//! (`open` where there is no upper end). A line is one mark that carries lists.

use std::collections::HashMap;

use super::figure::{Figure, Interval, Point, Scale, Series, Style};
use super::frame::{Frame, is_drawn};
use super::markup::Element;
use super::number::short;
use super::style::{INK, dashes, filled, marker, stroked};

/// Pixels between points of the same x that have intervals.
const ASIDE: f64 = 8.0;
/// Most pixels that points of the same x are spread over.
const SPREAD: f64 = 48.0;

/// All series of a figure.
pub(super) fn marks(figure: &Figure, frame: &Frame) -> Vec<Element> {
    let mut aside = Aside::of(figure);
    let bars = figure.series.iter().filter(|series| series.style == Style::Bars).count();
    let mut bar = 0;
    let mut drawn = Vec::new();
    for (at, series) in figure.series.iter().enumerate() {
        let points: Vec<Point> =
            series.points.iter().copied().filter(|point| is_drawn(figure, point)).collect();
        let pen = Pen { figure, frame, series, at };
        match series.style {
            Style::Line | Style::Steps => drawn.push(pen.line(&points)),
            Style::Band => drawn.extend([pen.surface(&points), pen.line(&points)]),
            Style::LineMarkers => {
                drawn.push(pen.line(&points));
                drawn.extend(points.iter().map(|point| pen.mark(point, 0.0)));
            }
            Style::Markers => {
                drawn.extend(points.iter().map(|point| pen.mark(point, aside.next(point))));
            }
            Style::Bars => {
                drawn.extend(points.iter().map(|point| pen.bar(point, bar, bars)));
                bar += 1;
            }
        }
    }
    drawn
}

/// Points that share an x would hide each other's intervals: they step aside by a few pixels.
/// Their numbers stay.
struct Aside {
    total: HashMap<u64, usize>,
    placed: HashMap<u64, usize>,
}

impl Aside {
    fn of(figure: &Figure) -> Self {
        let mut total = HashMap::new();
        for series in figure.series.iter().filter(|series| series.style == Style::Markers) {
            let ranged = series.points.iter().filter(|point| point.interval != Interval::None);
            ranged
                .filter(|point| is_drawn(figure, point))
                .for_each(|point| *total.entry(point.x.to_bits()).or_default() += 1);
        }
        Self { total, placed: HashMap::new() }
    }

    fn next(&mut self, point: &Point) -> f64 {
        if point.interval == Interval::None {
            return 0.0;
        }
        let x = point.x.to_bits();
        let gaps = self.total.get(&x).copied().unwrap_or(1).max(1) as f64 - 1.0;
        let placed = self.placed.entry(x).or_default();
        let step = if gaps > 0.0 { ASIDE.min(SPREAD / gaps) } else { 0.0 };
        let aside = (*placed as f64 - gaps / 2.0) * step;
        *placed += 1;
        aside
    }
}

struct Pen<'a> {
    figure: &'a Figure,
    frame: &'a Frame<'a>,
    series: &'a Series,
    at: usize,
}

impl Pen<'_> {
    fn line(&self, points: &[Point]) -> Element {
        let corner = |(at, point): (usize, &Point)| {
            let (x, y) = (self.frame.x(point.x), self.frame.y(point.y));
            match (at, self.series.style) {
                (0, _) => format!("M{x:.2} {y:.2}"),
                (_, Style::Steps) => format!("H{x:.2}V{y:.2}"),
                (_, _) => format!("L{x:.2} {y:.2}"),
            }
        };
        let path: String = points.iter().enumerate().map(corner).collect();
        let list = |value: fn(&Point) -> f64| {
            points.iter().map(|point| value(point).to_string()).collect::<Vec<_>>().join(" ")
        };
        stroked(Element::new("path"), self.at)
            .set("fill", "none")
            .set("stroke-width", 1.8)
            .set("stroke-linejoin", "round")
            .set("stroke-dasharray", dashes(self.at))
            .set("d", path)
            .set("data-series", &self.series.name)
            .set("data-x", list(|point| point.x))
            .set("data-y", list(|point| point.y))
    }

    fn surface(&self, points: &[Point]) -> Element {
        let ranged: Vec<(f64, f64, f64)> = points
            .iter()
            .filter_map(|point| match point.interval {
                Interval::Closed { low, high } => Some((point.x, low, high)),
                Interval::None | Interval::Open { .. } => None,
            })
            .collect();
        let place = |x: f64, y: f64| format!("{:.2},{:.2}", self.frame.x(x), self.frame.y(y));
        let above = ranged.iter().map(|&(x, _, high)| place(x, high));
        let below = ranged.iter().rev().map(|&(x, low, _)| place(x, low));
        let list = |value: fn(&(f64, f64, f64)) -> f64| {
            ranged.iter().map(|range| value(range).to_string()).collect::<Vec<_>>().join(" ")
        };
        filled(Element::new("polygon"), self.at)
            .set("fill-opacity", 0.18)
            .set("points", above.chain(below).collect::<Vec<_>>().join(" "))
            .set("data-series", &self.series.name)
            .set("data-x", list(|range| range.0))
            .set("data-low", list(|range| range.1))
            .set("data-high", list(|range| range.2))
    }

    fn mark(&self, point: &Point, aside: f64) -> Element {
        let (x, y) = (self.frame.x(point.x) + aside, self.frame.y(point.y));
        let group = self.numbers(Element::new("g"), point);
        group.children(self.whisker(point, x)).child(marker(self.at, x, y))
    }

    fn bar(&self, point: &Point, bar: usize, bars: usize) -> Element {
        let slot = match self.figure.x.scale {
            Scale::Categories(_) => self.frame.x(1.0) - self.frame.x(0.0),
            Scale::Linear | Scale::Log2 | Scale::Log10 => 12.0 * bars as f64,
        };
        // Of a single category there is no distance to a second one.
        let slot = if slot > 0.0 { slot.min(160.0) } else { 160.0 };
        let width = 0.76 * slot / bars as f64;
        let left = self.frame.x(point.x) + (bar as f64 - bars as f64 / 2.0) * width;
        let (ground, end) = (self.frame.y(0.0), self.frame.y(point.y));
        let body = filled(Element::new("rect"), self.at)
            .at("x", left)
            .at("y", end.min(ground))
            .at("width", (width - 1.5).max(0.5))
            .at("height", (ground - end).abs());
        let group = self.numbers(Element::new("g"), point).child(body);
        group.children(self.whisker(point, left + width / 2.0))
    }

    /// The interval of a point: a line with ends, or an arrow where there is no upper end.
    fn whisker(&self, point: &Point, x: f64) -> Vec<Element> {
        let path = match point.interval {
            Interval::None => return Vec::new(),
            Interval::Closed { low, high } => {
                let (low, high) = (self.frame.y(low), self.frame.y(high));
                let (left, right) = (x - 4.0, x + 4.0);
                format!(
                    "M{left:.2} {low:.2}H{right:.2}M{left:.2} {high:.2}H{right:.2}\
                     M{x:.2} {low:.2}V{high:.2}"
                )
            }
            Interval::Open { low } => {
                let low = self.frame.y(low);
                let tip = (low - 30.0).max(self.frame.top + 1.0);
                let (left, right, shoulder) = (x - 4.0, x + 4.0, tip + 6.0);
                format!(
                    "M{x:.2} {low:.2}V{tip:.2}M{left:.2} {shoulder:.2}\
                     L{x:.2} {tip:.2}L{right:.2} {shoulder:.2}"
                )
            }
        };
        // A bar has the colour of the series already.
        let line = Element::new("path").set("fill", "none").set("stroke-width", 1.5).set("d", path);
        vec![match self.series.style {
            Style::Bars => line.set("class", "axis").set("stroke", INK),
            _ => stroked(line, self.at),
        }]
    }

    fn numbers(&self, element: Element, point: &Point) -> Element {
        let x = match &self.figure.x.scale {
            Scale::Categories(names) => {
                names.get(point.x as usize).cloned().unwrap_or_else(|| point.x.to_string())
            }
            Scale::Linear | Scale::Log2 | Scale::Log10 => point.x.to_string(),
        };
        let (low, high, range) = match point.interval {
            Interval::None => (None, None, String::new()),
            Interval::Closed { low, high } => {
                let range = format!(" [{}, {}]", short(low), short(high));
                (Some(low.to_string()), Some(high.to_string()), range)
            }
            Interval::Open { low } => {
                (Some(low.to_string()), Some("open".to_owned()), " or more".to_owned())
            }
        };
        let element =
            element.set("data-series", &self.series.name).set("data-x", &x).set("data-y", point.y);
        let element = low.into_iter().fold(element, |element, low| element.set("data-low", low));
        let element =
            high.into_iter().fold(element, |element, high| element.set("data-high", high));
        let told = format!("{}: {x}, {}{range}", self.series.name, short(point.y));
        element.child(Element::new("title").text(&told))
    }
}
