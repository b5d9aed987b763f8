//! The axes of a figure: from values to places on the picture.

use super::figure::{Figure, Interval, Point, Scale, Shape, Style};
use super::markup::Element;
use super::scale::{Ground, Span, Tick, has_place};
use super::style::{GRID, INK, cut, text, width_of};

/// Of every picture, in pixels.
pub(super) const WIDTH: f64 = 760.0;
const TOP: f64 = 44.0;
const HEIGHT: f64 = 340.0;
const RIGHT: f64 = 22.0;
/// Of the numbers beside the axes.
const SMALL: f64 = 11.5;
/// Of the names of the axes.
const MEDIUM: f64 = 13.0;
/// A longer name of a category is cut.
const LONGEST_NAME: f64 = 210.0;

/// The rectangle of the data, and what its sides mean.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    figure: &'a Figure,
    x_span: Span<'a>,
    y_span: Span<'a>,
    slanted: bool,
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// Below the name of the horizontal axis.
    pub(super) end: f64,
}

/// Whether a point has a place on both axes.
pub(super) fn is_drawn(figure: &Figure, point: &Point) -> bool {
    has_place(&figure.x.scale, point.x) && has_place(&figure.y.scale, point.y)
}

impl<'a> Frame<'a> {
    /// The frame that holds all points; none if there is no point.
    pub(super) fn of(figure: &'a Figure) -> Option<Self> {
        let drawn: Vec<&Point> = figure
            .series
            .iter()
            .flat_map(|series| &series.points)
            .filter(|point| is_drawn(figure, point))
            .collect();
        drawn.first()?;
        let shapes = || figure.references.iter().map(|reference| &reference.shape);
        let uprights = shapes().filter_map(|shape| match shape {
            Shape::Upright(x) => Some(*x),
            Shape::Level(_) | Shape::Power { .. } | Shape::Curve(_) => None,
        });
        let levels = shapes().filter_map(|shape| match shape {
            Shape::Level(y) => Some(*y),
            Shape::Upright(_) | Shape::Power { .. } | Shape::Curve(_) => None,
        });
        let xs: Vec<f64> = drawn.iter().map(|point| point.x).chain(uprights).collect();
        let ys: Vec<f64> = drawn.iter().flat_map(|point| heights(point)).chain(levels).collect();
        let barred = figure.series.iter().any(|series| series.style == Style::Bars);
        let ground = if barred { Ground::Zero } else { Ground::Data };
        let x_span = Span::of(&figure.x.scale, &xs, Ground::Data)?;
        let y_span = Span::of(&figure.y.scale, &ys, ground)?;
        Some(Self::around(figure, x_span, y_span))
    }

    /// Leaves as much room as the labels take.
    fn around(figure: &'a Figure, x_span: Span<'a>, y_span: Span<'a>) -> Self {
        let widest = |ticks: &[Tick]| {
            let widths = ticks.iter().map(|tick| width_of(&tick.label, SMALL));
            widths.fold(0.0, f64::max).min(LONGEST_NAME)
        };
        let ticks = x_span.ticks();
        let name = widest(&ticks);
        let left = 46.0 + widest(&y_span.ticks());
        let slot = (WIDTH - left - RIGHT) / ticks.len().max(1) as f64;
        let named = matches!(figure.x.scale, Scale::Categories(_));
        let slanted = named && name + 8.0 > slot;
        // A slanted name goes down by half of its length and left by 0.87 of it.
        let left = if slanted { left.max(0.87 * name - 0.4 * slot) } else { left };
        let below = if slanted { 0.5 * name + 16.0 } else { 20.0 };
        Self {
            figure,
            x_span,
            y_span,
            slanted,
            left,
            top: TOP,
            width: WIDTH - left - RIGHT,
            height: HEIGHT,
            end: TOP + HEIGHT + below + 26.0,
        }
    }

    /// Where a value is from left to right; at the side when it has no place.
    pub(super) fn x(&self, value: f64) -> f64 {
        self.left + self.x_span.place(value).clamp(0.0, 1.0) * self.width
    }

    /// Where a value is from top to bottom; at the ground when it has no place.
    pub(super) fn y(&self, value: f64) -> f64 {
        self.top + (1.0 - self.y_span.place(value).clamp(0.0, 1.0)) * self.height
    }

    /// The same, but past the frame when the value lies there.
    pub(super) fn beyond(&self, (x, y): (f64, f64)) -> (f64, f64) {
        // Further out, coordinates would lose their meaning in what draws them.
        let place = |span: &Span, value| span.place(value).clamp(-20.0, 20.0);
        let right = self.left + place(&self.x_span, x) * self.width;
        (right, self.top + (1.0 - place(&self.y_span, y)) * self.height)
    }

    /// The x at a place from 0 to 1.
    pub(super) fn x_value(&self, place: f64) -> f64 {
        self.x_span.value(place)
    }

    /// The lowest and the highest y.
    pub(super) fn y_ends(&self) -> (f64, f64) {
        (self.y_span.value(0.0), self.y_span.value(1.0))
    }

    /// Grid, numbers and names.
    pub(super) fn axes(&self) -> Vec<Element> {
        let bottom = self.top + self.height;
        let mut drawn = Vec::new();
        for tick in self.y_span.ticks() {
            let y = self.y(tick.value);
            drawn.push(line((self.left, y), (self.left + self.width, y), GRID, "grid"));
            drawn.push(text(&tick.label, self.left - 8.0, y + 4.0, SMALL, "end"));
        }
        for tick in self.x_span.ticks() {
            let x = self.x(tick.value);
            if matches!(self.figure.x.scale, Scale::Categories(_)) {
                drawn.push(self.category(&tick.label, x, bottom));
            } else {
                drawn.push(line((x, self.top), (x, bottom), GRID, "grid"));
                drawn.push(text(&tick.label, x, bottom + 18.0, SMALL, "middle"));
            }
        }
        drawn.push(line((self.left, bottom), (self.left + self.width, bottom), INK, "axis"));
        drawn.push(line((self.left, self.top), (self.left, bottom), INK, "axis"));
        let middle = self.left + self.width / 2.0;
        let name = cut(&self.figure.x.label, self.width, MEDIUM);
        drawn.push(text(&name, middle, self.end - 8.0, MEDIUM, "middle"));
        let turned = format!("translate(18 {:.1}) rotate(-90)", self.top + self.height / 2.0);
        let name = cut(&self.figure.y.label, self.height, MEDIUM);
        drawn.push(text(&name, 0.0, 0.0, MEDIUM, "middle").set("transform", turned));
        drawn
    }

    fn category(&self, name: &str, x: f64, bottom: f64) -> Element {
        let name = cut(name, LONGEST_NAME, SMALL);
        if !self.slanted {
            return text(&name, x, bottom + 18.0, SMALL, "middle");
        }
        let turned = format!("translate({x:.1} {:.1}) rotate(-30)", bottom + 14.0);
        text(&name, 4.0, 0.0, SMALL, "end").set("transform", turned)
    }
}

/// The heights that a point reaches.
fn heights(point: &Point) -> Vec<f64> {
    match point.interval {
        Interval::None => vec![point.y],
        Interval::Closed { low, high } => vec![point.y, low, high],
        // Room for the arrow.
        Interval::Open { low } => vec![point.y, low, 1.5 * low],
    }
}

fn line(from: (f64, f64), to: (f64, f64), colour: &str, class: &str) -> Element {
    let line = Element::new("line").set("class", class).set("stroke", colour);
    line.at("x1", from.0).at("y1", from.1).at("x2", to.0).at("y2", to.1)
}
