//! How is a vector brought to unit size?

use super::host::{self, Host};
use super::params::Weight;
use super::reference;
use super::tape::{Gradient, Tape, Value};
use crate::error::Result;

/// y = weight * x / sqrt(mean(x^2) + eps) over the last axis: (.., D) by (D). Zhang & Sennrich 2019.
///
/// # Errors
/// The width of `x` is not that of `weight`.
pub fn rms_norm(tape: &Tape, x: &Value, weight: &Weight, eps: f64) -> Result<Value> {
    if !tape.fuses(x.tensor()) {
        return tape
            .composed(&[x], &[weight], |x, weights| reference::rms_norm(&x[0], &weights[0], eps));
    }
    let input = x.tensor().contiguous()?;
    let width = weight.tensor().elem_count();
    let inverse = |row: &[f32]| 1.0 / (host::dot(row, row) / width as f32 + eps as f32).sqrt();
    let output = {
        let (x, scale) = (Host::new(&input)?, Host::new(weight.tensor())?);
        let y = host::new_rows(x.len(), width, |row, y| {
            let x = &x[row * width..(row + 1) * width];
            let inverse = inverse(x);
            for ((y, x), scale) in y.iter_mut().zip(x).zip(&*scale) {
                *y = x * inverse * scale;
            }
        });
        host::tensor(y, input.shape())?
    };
    if !tape.needs(&[x], &[weight]) {
        return Ok(Value::constant(output));
    }
    let (weight, slot, eps) = (weight.clone(), x.slot(), eps as f32);
    Ok(tape.push(output, move |gradient, backward| {
        let (x, dy) = (Host::new(&input)?, Host::new(&gradient)?);
        let scale = Host::new(weight.tensor())?;
        let inverse = |row: &[f32]| 1.0 / (host::dot(row, row) / width as f32 + eps).sqrt();
        let row_of =
            |values: &[f32], row: usize| row * width..((row + 1) * width).min(values.len());
        if weight.trained_name().is_some() {
            let total = host::sum_over_rows(x.len() / width, width, |rows, sums| {
                for row in rows {
                    let (x, dy) = (&x[row_of(&x, row)], &dy[row_of(&dy, row)]);
                    let inverse = inverse(x);
                    for ((sum, x), dy) in sums.iter_mut().zip(x).zip(dy) {
                        *sum += dy * x * inverse;
                    }
                }
            });
            backward.sum_weight(&weight, |sum| super::linear::add_rows(sum, &total));
        }
        if slot.is_none() {
            return Ok(());
        }
        // dx = inverse (g - x inverse^2 mean(g x)), g = dy * scale
        let (before, own) = match backward.take(slot) {
            None => (None, None),
            Some(Gradient::Shared(before)) => (Some(before.contiguous()?), None),
            Some(own) => (None, Some(own.numbers()?)),
        };
        let before = before.as_ref().map(Host::new).transpose()?;
        let back = |row: usize, dx: &mut [f32], before: Option<&[f32]>| {
            let (x, dy) = (&x[row_of(&x, row)], &dy[row_of(&dy, row)]);
            let inverse = inverse(x);
            let mean = host::dot3(dy, &scale, x) / width as f32 * inverse * inverse;
            let of = |dy: f32, scale: f32, x: f32| (dy * scale - x * mean) * inverse;
            let inputs = dy.iter().zip(&*scale).zip(x);
            match before {
                None => {
                    for (dx, ((dy, scale), x)) in dx.iter_mut().zip(inputs) {
                        *dx += of(*dy, *scale, *x);
                    }
                }
                Some(before) => {
                    for ((dx, before), ((dy, scale), x)) in dx.iter_mut().zip(before).zip(inputs) {
                        *dx = before + of(*dy, *scale, *x);
                    }
                }
            }
        };
        let dx = match own {
            Some(mut sum) => {
                host::fill_rows(&mut sum, width, |row, dx| back(row, dx, None));
                sum
            }
            None => host::new_rows(x.len(), width, |row, dx| {
                back(row, dx, before.as_ref().map(|before| &before[row_of(before, row)]));
            }),
        };
        backward.add_own(slot, dx, gradient.shape())
    }))
}
