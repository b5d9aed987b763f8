//! SwiGLU, the gated activation of the MLP: silu(gate) * up. Shazeer 2020.

use super::gated::gated;
use crate::autograd::{Tape, Value};
use crate::error::Result;
use crate::kernels::host;

/// silu(gate) * up, element by element, of equal shapes.
///
/// # Errors
/// The shapes differ.
pub fn swiglu(tape: &Tape, gate: &Value, up: &Value) -> Result<Value> {
    gated(
        tape,
        (gate, up),
        |gate, up| Ok((gate.silu()? * up)?),
        element,
        // d silu(g) / dg = s (1 + g (1 - s)), s = sigmoid(g)
        #[inline(always)]
        |gate, up, dy| {
            let sigmoid = 1.0 / (1.0 + host::exp(-gate));
            (dy * up * sigmoid * (1.0 + gate * (1.0 - sigmoid)), dy * gate * sigmoid)
        },
    )
}

/// [`swiglu`] of rows, written over the gate, for decoding.
pub(crate) fn swiglu_in_place(gate: &mut [f32], up: &[f32]) {
    host::fill_ranges(
        gate,
        #[inline(always)]
        |range, gate| {
            for (gate, up) in gate.iter_mut().zip(&up[range]) {
                *gate = element(*gate, *up);
            }
        },
    );
}

// silu(g) = g sigmoid(g) = g / (1 + e^-g)
#[inline(always)]
fn element(gate: f32, up: f32) -> f32 {
    gate / (1.0 + host::exp(-gate)) * up
}
