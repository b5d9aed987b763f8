//! A figure as data: axes, series and reference lines.

/// Everything a picture shows, as plain data.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Of its files: made of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Above the picture.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upward.
    pub y: Axis,
    /// What was measured.
    pub series: Vec<Series>,
    /// What it is compared with.
    pub references: Vec<Reference>,
}

/// A direction of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The quantity and its unit.
    pub label: String,
    /// How values become lengths.
    pub scale: Scale,
}

/// How values become lengths.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// Equal differences are equally long.
    Linear,
    /// Equal ratios are equally long, with lines at powers of two.
    Log2,
    /// Equal ratios are equally long, with lines at powers of ten.
    Log10,
    /// The value counts these names, from 0.
    Categories(Vec<String>),
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// How it is drawn.
    pub style: Style,
    /// From left to right.
    pub points: Vec<Point>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Straight lines between points.
    Line,
    /// A mark at each point.
    Markers,
    /// Both.
    LineMarkers,
    /// Each value holds until the next point.
    Steps,
    /// A line, and a surface over its intervals.
    Band,
    /// A bar from the ground, beside those of other series.
    Bars,
}

/// One measurement. A number that is not finite says that it is not known: it is not drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Upward.
    pub y: f64,
    /// Where the value may lie.
    pub interval: Interval,
}

/// Where the value of a point may lie, upward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Interval {
    /// Nothing is said.
    None,
    /// Between two values.
    Closed {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
    /// Above a value, no one knows how far: right-censored.
    Open {
        /// The lower end.
        low: f64,
    },
}

/// A line that was not measured here.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// In the legend.
    pub name: String,
    /// Where it goes.
    pub shape: Shape,
}

/// Where a reference line goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// From side to side at this y.
    Level(f64),
    /// From bottom to top at this x.
    Upright(f64),
    /// y = b (x / a)^exponent: a straight line when both axes show ratios.
    Power {
        /// Its slope there.
        exponent: f64,
        /// The point (a, b).
        through: (f64, f64),
    },
    /// From point to point.
    Curve(Vec<(f64, f64)>),
}

impl Axis {
    /// An axis by its label and scale.
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), scale }
    }
}

impl Point {
    /// A point without an interval; `None` stands for a number that is not known.
    pub fn new(x: impl Into<Option<f64>>, y: impl Into<Option<f64>>) -> Self {
        let known = |value: Option<f64>| value.unwrap_or(f64::NAN);
        Self { x: known(x.into()), y: known(y.into()), interval: Interval::None }
    }

    /// The same with the interval from `low` to `high`, where both are known.
    #[must_use]
    pub fn between(self, low: Option<f64>, high: Option<f64>) -> Self {
        let interval = match (low, high) {
            (Some(low), Some(high)) => Interval::Closed { low, high },
            _ => Interval::None,
        };
        Self { interval, ..self }
    }

    /// What is known of a quantity that lies between `low` and `high`, or above `low`. It stands
    /// in the geometric middle: where a law fitted to logarithms sees it.
    #[must_use]
    pub fn censored(x: Option<f64>, low: Option<f64>, high: Option<f64>) -> Self {
        match (low, high) {
            (Some(low), Some(high)) => {
                let middle = if low > 0.0 { low.sqrt() * high.sqrt() } else { high };
                Self { interval: Interval::Closed { low, high }, ..Self::new(x, middle) }
            }
            (Some(low), None) => Self { interval: Interval::Open { low }, ..Self::new(x, low) },
            (None, high) => Self::new(x, high),
        }
    }
}
