//! The hidden-state loss: relative squared error and cosine between two states.

use candle_core::Tensor;

use super::composed;
use super::terms::{StateComparison, StateScale, StateTerms, mean};
use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::host::{self, Host};

/// Compares `state` with `target`, (B, T, D) each, and records the gradient of
/// `weight * (squared * |h - t|^2 / |t|^2 + cosine * (1 - cos(h, t)))`, the mean over the compared
/// tokens.
///
/// # Errors
/// The shapes differ.
pub fn compare_states(
    tape: &Tape,
    state: &Value,
    target: &Tensor,
    comparison: &StateComparison,
    weight: f32,
) -> Result<StateTerms> {
    let (batch, tokens, width) = state.tensor().dims3()?;
    if target.dims() != state.tensor().dims() {
        return Err(Error::internal(format!(
            "a state of {:?} is compared with one of {:?}",
            state.tensor().dims(),
            target.dims()
        )));
    }
    if !tape.has_cpu_kernel(state.tensor()) {
        return composed::compare_states(tape, state, target, comparison, weight);
    }
    let (state_host, target_host) = (state.tensor().contiguous()?, target.contiguous()?);
    let (h, t) = (Host::new(&state_host)?, Host::new(&target_host)?);
    let (h, t): (&[f32], &[f32]) = (&h, &t);
    let skip = comparison.skip_tokens.min(tokens.saturating_sub(1));
    let scales = dimension_scales(t, width, tokens, skip, comparison.scale);
    let per_token = 1.0 / (batch * (tokens - skip)).max(1) as f32;
    let rows = batch * tokens;
    // For each row its gradient, and its squared error and cosine.
    let (gradient, errors) = host::new_row_pairs(
        rows,
        (width, 2),
        #[inline(always)]
        |row, gradient, errors| {
            if row % tokens < skip {
                return;
            }
            let span = row * width..(row + 1) * width;
            let (h, t) = (&h[span.clone()], &t[span]);
            compare_row(h, t, &scales, (gradient, errors), comparison, weight * per_token);
        },
    );
    let column = |index: usize| -> Vec<f32> {
        (0..rows).filter(|row| row % tokens >= skip).map(|row| errors[2 * row + index]).collect()
    };
    let terms = StateTerms { squared: mean(&column(0)), cosine: mean(&column(1)) };
    if state.slot().is_some() && weight != 0.0 {
        tape.push_loss(state, host::tensor(gradient, (batch, tokens, width))?);
    }
    Ok(terms)
}

/// 1 / mean square of each dimension of the target over the compared tokens.
fn dimension_scales(
    target: &[f32],
    width: usize,
    tokens: usize,
    skip: usize,
    scale: StateScale,
) -> Vec<f32> {
    if scale == StateScale::Raw {
        return vec![1.0; width];
    }
    let rows = target.len() / width;
    let squares = host::sum_over_rows(
        rows,
        width,
        #[inline(always)]
        |rows, sums| {
            for row in rows.filter(|row| row % tokens >= skip) {
                for (sum, value) in sums.iter_mut().zip(&target[row * width..(row + 1) * width]) {
                    *sum += value * value;
                }
            }
        },
    );
    let compared = (0..rows).filter(|row| row % tokens >= skip).count().max(1) as f32;
    let typical = squares.iter().sum::<f32>() / (compared * width as f32);
    // The floor keeps a dimension that is nearly zero from dominating.
    squares.iter().map(|&sum| 1.0 / (sum / compared).max(typical * 1e-4).max(1e-20)).collect()
}

/// The gradient of one token with respect to `h`, and its relative squared error and cosine.
#[inline(always)]
fn compare_row(
    h: &[f32],
    t: &[f32],
    scales: &[f32],
    (gradient, errors): (&mut [f32], &mut [f32]),
    comparison: &StateComparison,
    weight: f32,
) {
    let [hh, ht, tt, dd] = host::sums_of(
        [h, t, scales],
        #[inline(always)]
        |[h, t, scale]| [scale * h * h, scale * h * t, scale * t * t, scale * (h - t) * (h - t)],
    );
    let (hh, tt) = (hh.max(1e-20), tt.max(1e-20));
    let norms = (hh * tt).sqrt();
    let cosine = ht / norms;
    // d|h-t|^2/tt = 2 s (h - t) / tt;  d(1 - cos) = -s (t / norms - h cos / hh)
    let squared = weight * comparison.squared * 2.0 / tt;
    let angular = weight * comparison.cosine;
    let (t_factor, h_factor) = (angular / norms, angular * cosine / hh);
    for (gradient, ((h, t), scale)) in gradient.iter_mut().zip(h.iter().zip(t).zip(scales)) {
        *gradient = scale * (squared * (h - t) - (t * t_factor - h * h_factor));
    }
    errors[0] = dd / tt;
    errors[1] = cosine;
}
