//! Linear and logarithmic scales, and their ticks.

use super::figure::Scale;
use super::number::{short, stepped};

/// Values larger than this, or closer to 0 than its inverse where ratios count, are taken for
/// defects: differences of larger ones overflow.
const LARGEST: f64 = 1e100;
/// About as many ticks fit an axis.
const TICKS: f64 = 6.0;

/// Whether an axis begins at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// Where the data does.
    Data,
    /// At 0, as bars need.
    Zero,
}

/// The part of an axis that is shown.
#[derive(Debug)]
pub(super) struct Span<'a> {
    scale: &'a Scale,
    /// Ends, as [`forward`] gives them.
    low: f64,
    high: f64,
    /// All values are whole numbers: none between two of them is written.
    whole: bool,
}

/// A value that is written beside the axis.
#[derive(Debug)]
pub(super) struct Tick {
    /// The value.
    pub(super) value: f64,
    /// How it reads.
    pub(super) label: String,
}

/// Whether a value has a place.
pub(super) fn has_place(scale: &Scale, value: f64) -> bool {
    let positive = match scale {
        Scale::Linear | Scale::Categories(_) => true,
        Scale::Log2 | Scale::Log10 => value > 1.0 / LARGEST,
    };
    value.abs() < LARGEST && positive
}

fn forward(scale: &Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear | Scale::Categories(_) => value,
        Scale::Log2 => value.log2(),
        Scale::Log10 => value.log10(),
    }
}

impl<'a> Span<'a> {
    /// What shows all `values` that have a place; none if no value has.
    pub(super) fn of(scale: &'a Scale, values: &[f64], ground: Ground) -> Option<Self> {
        let values: Vec<f64> =
            values.iter().copied().filter(|&value| has_place(scale, value)).collect();
        let whole = values.iter().all(|value| value.fract() == 0.0);
        let placed = || values.iter().map(|&value| forward(scale, value));
        let (mut low, mut high) = (placed().reduce(f64::min)?, placed().reduce(f64::max)?);
        if let Scale::Categories(names) = scale {
            let count = names.len().max(1) as f64;
            return Some(Self { scale, low: -0.5, high: count - 0.5, whole });
        }
        let rests = *scale == Scale::Linear && ground == Ground::Zero;
        if rests {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        let width = high - low;
        let margin = if width > 0.0 { 0.06 * width } else { (0.1 * high.abs()).max(0.5) };
        let below = if rests && low == 0.0 { 0.0 } else { margin };
        Some(Self { scale, low: low - below, high: high + margin, whole })
    }

    /// 0 at the lower end, 1 at the upper end; what has no place is below the lower end.
    pub(super) fn place(&self, value: f64) -> f64 {
        if !has_place(self.scale, value) {
            return -1.0;
        }
        (forward(self.scale, value) - self.low) / (self.high - self.low)
    }

    /// The value at a place.
    pub(super) fn value(&self, place: f64) -> f64 {
        let at = self.low + place * (self.high - self.low);
        match self.scale {
            Scale::Linear | Scale::Categories(_) => at,
            Scale::Log2 => at.exp2(),
            Scale::Log10 => 10_f64.powf(at),
        }
    }

    /// The values that are written.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        match self.scale {
            Scale::Linear => linear_ticks(self.low, self.high, self.whole),
            Scale::Categories(names) => {
                let stride = names.len().div_ceil(40).max(1);
                let named = names.iter().enumerate().step_by(stride);
                named.map(|(at, name)| Tick { value: at as f64, label: name.clone() }).collect()
            }
            Scale::Log2 => self.ratio_ticks(2.0, &[1.0, 1.5]),
            Scale::Log10 => self.ratio_ticks(10.0, &[1.0, 2.0, 5.0]),
        }
    }

    /// Powers of `base`, with multiples between them if they are few; where not even those are
    /// enough, equal differences.
    fn ratio_ticks(&self, base: f64, multiples: &[f64]) -> Vec<Tick> {
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        let stride = ((self.high - self.low) / TICKS).floor().max(1.0) as usize;
        let multiples = if self.high - self.low < 3.0 { multiples } else { &[1.0] };
        let ticks: Vec<Tick> = (first..=last)
            .step_by(stride)
            .flat_map(|power| multiples.iter().map(move |multiple| multiple * base.powi(power)))
            .filter(|&value| (0.0..=1.0).contains(&self.place(value)))
            .map(|value| Tick { value, label: short(value) })
            .collect();
        if ticks.len() >= 3 {
            return ticks;
        }
        linear_ticks(base.powf(self.low), base.powf(self.high), self.whole)
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64, whole: bool) -> Vec<Tick> {
    let rough = (high - low) / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough);
    let step = factor.unwrap_or(10.0) * power;
    let step = if whole { step.max(1.0) } else { step };
    let first = (low / step).ceil();
    (0..=2 * TICKS as i32)
        .map(|index| (first + f64::from(index)) * step + 0.0)
        .take_while(|value| *value <= high)
        .map(|value| Tick { value, label: stepped(value, step) })
        .collect()
}
