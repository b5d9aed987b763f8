//! How is a vector brought to unit size?

use super::host::{self, Host};
use super::params::Weight;
use super::reference;
use super::tape::{Tape, Value};
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
        let dx = host::new_rows(x.len(), width, |row, dx| {
            let (x, dy) = (&x[row_of(&x, row)], &dy[row_of(&dy, row)]);
            let inverse = inverse(x);
            for ((dx, dy), scale) in dx.iter_mut().zip(dy).zip(&*scale) {
                *dx = dy * scale;
            }
            let shrink = host::dot(dx, x) / width as f32 * inverse * inverse;
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = (*dx - x * shrink) * inverse;
            }
        });
        backward.add(slot, host::tensor(dx, gradient.shape())?)
    }))
}
