//! GELU and its gated form.
//!
//! gelu(x) = x P(x), where P is the cumulative distribution function of the standard normal
//! distribution. Hendrycks & Gimpel 2016.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gated::gated;
use crate::autograd::{Tape, Value};
use crate::error::Result;
use crate::kernels::host::{self, Host};

/// The form of GELU: how the normal distribution function is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeluForm {
    /// By a hyperbolic tangent, an approximation within 5e-4.
    Tanh,
    /// By the error function, exactly.
    Erf,
}

/// gelu(x), element by element.
///
/// # Errors
/// The device fails.
pub fn gelu(tape: &Tape, x: &Value, form: GeluForm) -> Result<Value> {
    if !tape.has_cpu_kernel(x.tensor()) {
        return tape.composed(&[x], &[], |x, _| composed(&x[0], form));
    }
    match form {
        GeluForm::Tanh => fused(tape, x, by_tanh),
        GeluForm::Erf => fused(tape, x, by_erf),
    }
}

/// gelu(gate) * up, element by element. Shazeer 2020.
///
/// # Errors
/// The shapes differ.
pub fn gated_gelu(tape: &Tape, gate: &Value, up: &Value, form: GeluForm) -> Result<Value> {
    match form {
        GeluForm::Tanh => gated_by(tape, gate, up, form, by_tanh),
        GeluForm::Erf => gated_by(tape, gate, up, form, by_erf),
    }
}

/// gelu(gate) * up of a form that computes P(x) and x P'(x).
fn gated_by<F>(tape: &Tape, gate: &Value, up: &Value, form: GeluForm, cdf: F) -> Result<Value>
where
    F: Fn(f32) -> (f32, f32) + Copy + Sync + 'static,
{
    gated(
        tape,
        (gate, up),
        |gate, up| Ok((composed(gate, form)? * up)?),
        #[inline(always)]
        |gate, up| gate * cdf(gate).0 * up,
        // d gelu(x) / dx = P(x) + x P'(x)
        #[inline(always)]
        move |gate, up, dy| {
            let (p, slope) = cdf(gate);
            (dy * up * (p + slope), dy * gate * p)
        },
    )
}

/// [`gelu`] composed of candle's operations.
fn composed(x: &Tensor, form: GeluForm) -> Result<Tensor> {
    Ok(match form {
        GeluForm::Tanh => x.gelu()?,
        GeluForm::Erf => x.gelu_erf()?,
    })
}

/// P(x) and x P'(x).
// P(x) = (1 + tanh u) / 2 = 1 / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
#[inline(always)]
fn by_tanh(x: f32) -> (f32, f32) {
    const TWICE: f32 = 2.0 * 0.797_884_6; // 2 sqrt(2 / pi)
    // From 10 on P is 0 or 1 in f32, and the cube of a large x would be infinite.
    let x = x.clamp(-10.0, 10.0);
    let square = x * x;
    let p = 1.0 / (1.0 + host::exp(-TWICE * x * (1.0 + 0.044_715 * square)));
    (p, x * p * (1.0 - p) * TWICE * (1.0 + 3.0 * 0.044_715 * square))
}

/// P(x) and x P'(x).
// P(x) = erfc(-x / sqrt(2)) / 2, P'(x) = e^(-x^2 / 2) / sqrt(2 pi)
#[inline(always)]
fn by_erf(x: f32) -> (f32, f32) {
    const ROOT: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
    // From 13 on P is 0 or 1 in f32, and the square of a large x would be infinite.
    let x = x.clamp(-13.0, 13.0);
    let (tail, bell) = host::erfc(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    let tail = 0.5 * tail;
    (if x < 0.0 { tail } else { 1.0 - tail }, x * bell * ROOT)
}

/// gelu(x) of a form that computes P(x) and x P'(x).
fn fused<F>(tape: &Tape, x: &Value, cdf: F) -> Result<Value>
where
    F: Fn(f32) -> (f32, f32) + Copy + Sync + 'static,
{
    let input = x.tensor().contiguous()?;
    let output = {
        let x = Host::new(&input)?;
        let y = host::new_ranges(
            x.len(),
            #[inline(always)]
            |range, y| {
                for (y, x) in y.iter_mut().zip(&x[range]) {
                    *y = x * cdf(*x).0;
                }
            },
        );
        host::tensor(y, input.shape())?
    };
    if !tape.requires_grad(&[x], &[]) {
        return Ok(Value::constant(output));
    }
    let slot = x.slot();
    Ok(tape.push_host(output, move |mut gradient, backward| {
        let x = Host::new(&input)?;
        // The gradient of `x` overwrites that of the output.
        host::fill_ranges(
            &mut gradient,
            #[inline(always)]
            |range, gradient| {
                for (gradient, x) in gradient.iter_mut().zip(&x[range]) {
                    let (p, slope) = cdf(*x);
                    *gradient *= p + slope;
                }
            },
        );
        backward.add_vec(slot, gradient, input.shape())
    }))
}
