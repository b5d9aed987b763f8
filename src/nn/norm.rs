//! How is a vector brought to unit size?

use super::backward::Gradient;
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
    let eps = eps as f32;
    let output = {
        let (x, scale) = (Host::new(&input)?, Host::new(weight.tensor())?);
        let (x, scale): (&[f32], &[f32]) = (&x, &scale);
        let y = host::new_rows(
            x.len(),
            width,
            #[inline(always)]
            |row, y| {
                let x = &x[row * width..(row + 1) * width];
                let inverse = inverse(x, eps);
                for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
                    *y = x * inverse * scale;
                }
            },
        );
        host::tensor(y, input.shape())?
    };
    if !tape.needs(&[x], &[weight]) {
        return Ok(Value::constant(output));
    }
    let (weight, slot) = (weight.clone(), x.slot());
    Ok(tape.push(output, move |gradient, backward| {
        let gradient = gradient.contiguous()?;
        let (x, dy, scale) =
            (Host::new(&input)?, Host::new(&gradient)?, Host::new(weight.tensor())?);
        let (x, dy, scale): (&[f32], &[f32], &[f32]) = (&x, &dy, &scale);
        if weight.trained_name().is_some() {
            let total = host::sum_over_rows(
                x.len() / width,
                width,
                #[inline(always)]
                |rows, sums| {
                    for row in rows {
                        let span = row * width..(row + 1) * width;
                        let (x, dy) = (&x[span.clone()], &dy[span]);
                        let inverse = inverse(x, eps);
                        for ((sum, x), dy) in sums.iter_mut().zip(x).zip(dy) {
                            *sum += dy * x * inverse;
                        }
                    }
                },
            );
            backward.sum_weight(&weight, |sum| super::linear::add_rows(sum, &total));
        }
        if slot.is_none() {
            return Ok(());
        }
        let dx = match backward.take(slot) {
            Some(Gradient::Shared(before)) => {
                let before = before.contiguous()?;
                let before = Host::new(&before)?;
                let before: &[f32] = &before;
                host::new_rows(
                    x.len(),
                    width,
                    #[inline(always)]
                    |row, dx| {
                        let span = row * width..(row + 1) * width;
                        dx.copy_from_slice(&before[span.clone()]);
                        add_back(dx, &x[span.clone()], &dy[span], scale, eps);
                    },
                )
            }
            before => {
                let mut dx = match before {
                    Some(before) => before.numbers()?,
                    None => host::zeros(x.len()),
                };
                host::fill_rows(
                    &mut dx,
                    width,
                    #[inline(always)]
                    |row, dx| {
                        let span = row * width..(row + 1) * width;
                        add_back(dx, &x[span.clone()], &dy[span], scale, eps);
                    },
                );
                dx
            }
        };
        backward.add_own(slot, dx, gradient.shape())
    }))
}

/// 1 / sqrt(mean(x^2) + eps).
#[inline(always)]
fn inverse(x: &[f32], eps: f32) -> f32 {
    1.0 / (host::dot(x, x) / x.len() as f32 + eps).sqrt()
}

/// Adds the gradient of a row `x` to `dx`.
// dx = inverse (g - x inverse^2 mean(g x)), g = dy * scale
#[inline(always)]
fn add_back(dx: &mut [f32], x: &[f32], dy: &[f32], scale: &[f32], eps: f32) {
    let inverse = inverse(x, eps);
    let shrink = host::dot3(dy, scale, x) / x.len() as f32 * inverse * inverse;
    for ((dx, x), (dy, scale)) in dx.iter_mut().zip(x).zip(dy.iter().zip(scale)) {
        *dx += (dy * scale - x * shrink) * inverse;
    }
}
