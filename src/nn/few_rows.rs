//! What is the product of one row of weights with a few rows of activations?
//!
//! Each row of activations has its own running sums, in the same order however many there are.

use half::bf16;

use super::stored::GROUP;

/// Rows up to which the order of a sum is the same.
pub(super) const FEW: usize = 16;
const LANES: usize = 16;
/// Rows of activations that share one reading of the weights.
const TOGETHER: usize = 4;

/// A weight as it is stored.
pub(super) trait Element: Copy {
    fn widen(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// A row of weights in 8 bits.
#[derive(Clone, Copy)]
pub(super) struct Int8Row<'a> {
    pub(super) numbers: &'a [i8],
    pub(super) scales: &'a [f32],
}

/// `weights`, (in), times every row of `x`, (rows, in): (rows).
#[inline(always)]
pub(super) fn dots<E: Element>(weights: &[E], x: &[f32], y: &mut [f32]) {
    each(
        weights.len(),
        x,
        y,
        #[inline(always)]
        |x, y| together::<E, TOGETHER>(weights, x, y),
        #[inline(always)]
        |x, y| together::<E, 1>(weights, x, y),
    );
}

/// The same of 8 bits.
#[inline(always)]
pub(super) fn dots_of_int8(row: Int8Row<'_>, x: &[f32], y: &mut [f32]) {
    each(
        row.numbers.len(),
        x,
        y,
        #[inline(always)]
        |x, y| together_of_int8::<TOGETHER>(row, x, y),
        #[inline(always)]
        |x, y| together_of_int8::<1>(row, x, y),
    );
}

#[inline(always)]
fn each(
    inner: usize,
    x: &[f32],
    y: &mut [f32],
    four: impl Fn(&[f32], &mut [f32]),
    one: impl Fn(&[f32], &mut [f32]),
) {
    let mut ys = y.chunks_exact_mut(TOGETHER);
    let mut xs = x.chunks_exact(TOGETHER * inner);
    for (x, y) in (&mut xs).zip(&mut ys) {
        four(x, y);
    }
    let rest = xs.remainder().chunks_exact(inner).zip(ys.into_remainder().chunks_exact_mut(1));
    for (x, y) in rest {
        one(x, y);
    }
}

#[inline(always)]
fn together<E: Element, const ROWS: usize>(weights: &[E], x: &[f32], y: &mut [f32]) {
    const STEP: usize = 2 * LANES;
    let inner = weights.len();
    let mut sums = [[0.0_f32; STEP]; ROWS];
    let whole = inner / STEP * STEP;
    for (at, weights) in weights.chunks_exact(STEP).enumerate() {
        let mut wide = [0.0_f32; STEP];
        for (wide, weight) in wide.iter_mut().zip(weights) {
            *wide = weight.widen();
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = &x[row * inner + at * STEP..][..STEP];
            for lane in 0..STEP {
                sums[lane] += wide[lane] * x[lane];
            }
        }
    }
    for (row, (sums, y)) in sums.iter().zip(y).enumerate() {
        let x = &x[row * inner..][..inner];
        let tail: f32 = weights[whole..].iter().zip(&x[whole..]).map(|(w, x)| w.widen() * x).sum();
        *y = sums.iter().sum::<f32>() + tail;
    }
}

#[inline(always)]
fn together_of_int8<const ROWS: usize>(row: Int8Row<'_>, x: &[f32], y: &mut [f32]) {
    let inner = row.numbers.len();
    let mut sums = [[0.0_f32; LANES]; ROWS];
    let whole = inner / GROUP * GROUP;
    for (at, numbers) in row.numbers.chunks_exact(GROUP).enumerate() {
        let scale = row.scales[at];
        let mut wide = [0.0_f32; GROUP];
        for (wide, number) in wide.iter_mut().zip(numbers) {
            *wide = f32::from(*number) * scale;
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = &x[row * inner + at * GROUP..][..GROUP];
            for lane in 0..LANES {
                sums[lane] += wide[lane] * x[lane];
            }
            for lane in 0..LANES {
                sums[lane] += wide[LANES + lane] * x[LANES + lane];
            }
        }
    }
    for (index, (sums, y)) in sums.iter().zip(y).enumerate() {
        let x = &x[index * inner..][..inner];
        let scale = row.scales.last().copied().unwrap_or_default();
        let tail = row.numbers[whole..].iter().zip(&x[whole..]);
        let tail: f32 = tail.map(|(number, x)| f32::from(*number) * scale * x).sum();
        *y = sums.iter().sum::<f32>() + tail;
    }
}
