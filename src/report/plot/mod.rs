//! Figures as SVG.

mod figure;
mod frame;
mod legend;
mod marks;
mod markup;
mod number;
mod references;
mod scale;
mod style;
mod svg;

pub use figure::{Axis, Figure, Interval, Point, Reference, Scale, Series, Shape, Style};
pub use markup::{Element, escape};
pub use number::{short, slug};
pub use svg::svg;
