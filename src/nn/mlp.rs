//! Pointwise operations of a block: SwiGLU and the residual sum.

use super::reference;
use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::host::{self, Host};

/// silu(gate) * up, element by element. Shazeer 2020.
///
/// # Errors
/// The shapes differ.
pub fn swiglu(tape: &Tape, gate: &Value, up: &Value) -> Result<Value> {
    if !tape.has_cpu_kernel(gate.tensor()) {
        return tape.composed(&[gate, up], &[], |x, _| reference::swiglu(&x[0], &x[1]));
    }
    let (gate_tensor, up_tensor) = (gate.tensor().clone(), up.tensor().clone());
    let output = {
        let (gate, up) = (Host::new(&gate_tensor)?, Host::new(&up_tensor)?);
        let (gate, up): (&[f32], &[f32]) = (&gate, &up);
        let y = host::new_ranges(
            gate.len(),
            #[inline(always)]
            |range, y| {
                let inputs = gate[range.clone()].iter().zip(&up[range]);
                for (y, (gate, up)) in y.iter_mut().zip(inputs) {
                    *y = gate / (1.0 + host::exp(-gate)) * up;
                }
            },
        );
        host::tensor(y, gate_tensor.shape())?
    };
    if !tape.requires_grad(&[gate, up], &[]) {
        return Ok(Value::constant(output));
    }
    let (gate_slot, up_slot) = (gate.slot(), up.slot());
    Ok(tape.push_host(output, move |mut d_up, backward| {
        let (gate, up) = (Host::new(&gate_tensor)?, Host::new(&up_tensor)?);
        let (gate, up): (&[f32], &[f32]) = (&gate, &up);
        // The gradient of `up` overwrites that of the output.
        let d_gate = host::new_ranges_with(
            &mut d_up,
            #[inline(always)]
            |range, d_gate, d_up| {
                let inputs = gate[range.clone()].iter().zip(&up[range]);
                for ((d_gate, d_up), (gate, up)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
                    let sigmoid = 1.0 / (1.0 + host::exp(-gate));
                    let dy = *d_up;
                    *d_gate = dy * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
                    *d_up = dy * gate * sigmoid;
                }
            },
        );
        backward.add_vec(gate_slot, d_gate, gate_tensor.shape())?;
        backward.add_vec(up_slot, d_up, up_tensor.shape())
    }))
}

/// a + b of equal shapes.
///
/// # Errors
/// The shapes differ.
pub fn add(tape: &Tape, a: &Value, b: &Value) -> Result<Value> {
    if a.tensor().dims() != b.tensor().dims() {
        return Err(Error::internal(format!(
            "a sum of tensors of {:?} and {:?}",
            a.tensor().dims(),
            b.tensor().dims()
        )));
    }
    if !tape.has_cpu_kernel(a.tensor()) {
        return tape.composed(&[a, b], &[], |x, _| Ok((&x[0] + &x[1])?));
    }
    let output = host::sum(a.tensor(), b.tensor())?;
    if !tape.requires_grad(&[a, b], &[]) {
        return Ok(Value::constant(output));
    }
    let (a_slot, b_slot) = (a.slot(), b.slot());
    Ok(tape.push(output, move |gradient, backward| {
        backward.add(a_slot, gradient.clone())?;
        backward.add(b_slot, gradient)
    }))
}
