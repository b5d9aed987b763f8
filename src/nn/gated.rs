//! The kernel of gated activations, act(gate) * up. Shazeer 2020.

use candle_core::Tensor;

use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::host::{self, Host};

/// A gated activation, element by element, of a gate and an up projection of equal shapes:
/// `forward(gate, up)`, its gradients `backward(gate, up, gradient)` with respect to gate and up,
/// and the same `composed` of candle's operations.
pub(super) fn gated<F, B>(
    tape: &Tape,
    (gate, up): (&Value, &Value),
    composed: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    forward: F,
    backward: B,
) -> Result<Value>
where
    F: Fn(f32, f32) -> f32 + Sync,
    B: Fn(f32, f32, f32) -> (f32, f32) + Sync + 'static,
{
    if gate.tensor().dims() != up.tensor().dims() {
        let (gate, up) = (gate.tensor().dims(), up.tensor().dims());
        return Err(Error::internal(format!("a gate of {gate:?} for a projection of {up:?}")));
    }
    if !tape.has_cpu_kernel(gate.tensor()) {
        return tape.composed(&[gate, up], &[], |x, _| composed(&x[0], &x[1]));
    }
    let (gate_tensor, up_tensor) = (gate.tensor().contiguous()?, up.tensor().contiguous()?);
    let output = {
        let (gate, up) = (Host::new(&gate_tensor)?, Host::new(&up_tensor)?);
        let (gate, up): (&[f32], &[f32]) = (&gate, &up);
        let y = host::new_ranges(
            gate.len(),
            #[inline(always)]
            |range, y| {
                let inputs = gate[range.clone()].iter().zip(&up[range]);
                for (y, (gate, up)) in y.iter_mut().zip(inputs) {
                    *y = forward(*gate, *up);
                }
            },
        );
        host::tensor(y, gate_tensor.shape())?
    };
    if !tape.requires_grad(&[gate, up], &[]) {
        return Ok(Value::constant(output));
    }
    let (gate_slot, up_slot) = (gate.slot(), up.slot());
    Ok(tape.push_host(output, move |mut d_up, gradients| {
        let (gate, up) = (Host::new(&gate_tensor)?, Host::new(&up_tensor)?);
        let (gate, up): (&[f32], &[f32]) = (&gate, &up);
        // The gradient of `up` overwrites that of the output.
        let d_gate = host::new_ranges_with(
            &mut d_up,
            #[inline(always)]
            |range, d_gate, d_up| {
                let inputs = gate[range.clone()].iter().zip(&up[range]);
                for ((d_gate, d_up), (gate, up)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
                    (*d_gate, *d_up) = backward(*gate, *up, *d_up);
                }
            },
        );
        gradients.add_vec(gate_slot, d_gate, gate_tensor.shape())?;
        gradients.add_vec(up_slot, d_up, up_tensor.shape())
    }))
}
